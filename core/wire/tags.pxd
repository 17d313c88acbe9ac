# The low bits of a completion's user_data say whose it is; the rest is a pointer.
cdef enum:
    TAG_RECV = 1
    TAG_SEND = 2
    TAG_DEVICE = 3
    TAG_WAKE = 4
    TAG_CANCEL = 5                 # nothing follows from a cancellation's own completion
    TAG_IMAGE = 6                  # librbd has finished something
    TAG_MASK = 7
