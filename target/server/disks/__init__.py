"""What makes a disk of a pool object: backends, logical units, frozen media. Imports `background`."""
