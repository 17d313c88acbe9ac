"""Native block core of Lunette: map, allocator, journal, engine and reactor."""
