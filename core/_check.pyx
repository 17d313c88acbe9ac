# The loops of `check` (core/check.py): counting references and comparing them, nothing of the engine's code in them.
from core.base.memory cimport mem_zeroed
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free

cdef enum:
    GROUP = 1024
    ENTRIES = 512
    HEADER = 64
    FLAG_DATA = 1
    FLAG_NODE = 2
    FLAG_HUGE = 4
    FLAG_SPARSE = 8
    FLAG_FOLLOW = 16
    GROUP_SHIFT = 5           # of the flags: how many entries a group has, as a power of two
    SPARSE_LEVEL = 64
    PLACE_SHIFT = 40          # in an entry of a sparse leaf
    PLACES = 65536

cdef inline uint64_t PBA() noexcept nogil:
    return (<uint64_t>1 << PLACE_SHIFT) - 1


cdef inline uint64_t entry_at(const uint8_t *page, int i) noexcept nogil:
    cdef const uint8_t *b = page + HEADER + i * 7
    return (<uint64_t>b[0] | <uint64_t>b[1] << 8 | <uint64_t>b[2] << 16 | <uint64_t>b[3] << 24 | <uint64_t>b[4] << 32
            | <uint64_t>b[5] << 40 | <uint64_t>b[6] << 48)


cdef class Counts:
    """References counted so far, one number a block, in groups that exist once something refers to them."""
    cdef uint32_t **groups
    cdef readonly uint64_t blocks

    def __cinit__(self, uint64_t blocks):
        self.blocks = blocks
        self.groups = <uint32_t **>mem_zeroed(<size_t>(blocks // GROUP + 1) * sizeof(uint32_t *))
        if self.groups == NULL:
            raise MemoryError()

    def __dealloc__(self):
        cdef uint64_t i
        if self.groups != NULL:
            for i in range(self.blocks // GROUP + 1):
                free(self.groups[i])
            free(self.groups)

    cdef int bump(self, uint64_t block) noexcept nogil:
        cdef uint64_t g = block // GROUP
        if block >= self.blocks:
            return -1
        if self.groups[g] == NULL:
            self.groups[g] = <uint32_t *>mem_zeroed(GROUP * sizeof(uint32_t))
            if self.groups[g] == NULL:
                return -2
        self.groups[g][block % GROUP] += 1
        return 0

    def add(self, uint64_t block, uint64_t length=1):
        """One reference to each of `length` blocks. False: beyond the pool."""
        cdef uint64_t i
        cdef int rc
        for i in range(length):
            rc = self.bump(block + i)
            if rc == -2:
                raise MemoryError()
            if rc:
                return False
        return True

    def get(self, uint64_t block):
        if block >= self.blocks or self.groups[block // GROUP] == NULL:
            return 0
        return self.groups[block // GROUP][block % GROUP]

    def scan(self, const unsigned char[::1] page not None, int level, bint catalog):
        """Count what the entries of a node refer to.

        Returns (children [(slot, block), ...], data blocks referred to here, end of the last of them in blocks from the
        node's start, first bad slot or -1). Children of leaves of the catalog's tree are catalog pages. A sparse leaf counts
        from where the widest group with it would begin.
        """
        if level == SPARSE_LEVEL:
            return self.scan_sparse(page)
        cdef list children = []
        cdef uint64_t e, ref, data = 0, end = 0, k, span = 1
        cdef int i, _step, bad = -1, flags, rc = 0
        if page.shape[0] != 4096:
            raise ValueError("a page has 4096 bytes")
        for _step in range(level):
            span *= ENTRIES
        for i in range(ENTRIES):
            e = entry_at(&page[0], i)
            if e == 0:
                continue
            ref, flags = e & ((<uint64_t>1 << 48) - 1), <int>(e >> 48)
            if flags >= FLAG_SPARSE and not catalog and level == 1 and in_group(page, i):
                if flags & FLAG_FOLLOW:
                    continue
                flags = FLAG_NODE
            if ref >= self.blocks:
                rc = -1
            elif flags == FLAG_DATA and level == 0 and not catalog:
                rc = self.bump(ref)
                data += 1
                end = i + 1
            elif flags == FLAG_HUGE and level == 1 and not catalog:
                for k in range(ENTRIES):
                    rc = self.bump(ref + k)
                    if rc:
                        break
                data += ENTRIES
                end = (i + 1) * <uint64_t>ENTRIES
            elif flags == FLAG_NODE and (level > 0 or catalog):
                rc = self.bump(ref)
                children.append((i, ref))
            else:
                rc = -1
            if rc == -2:
                raise MemoryError()
            if rc and bad < 0:
                bad = i
            rc = 0
        return children, data, end, bad

    def scan_sparse(self, const unsigned char[::1] page not None):
        """As `scan`, of a sparse leaf."""
        cdef uint64_t e, last = 0, data = 0
        cdef int i, rc, bad = -1
        for i in range(ENTRIES):
            e = entry_at(&page[0], i)
            if e == 0:
                last = PLACES         # nothing may follow
                continue
            rc = -1
            if 0 < e & PBA() < self.blocks and e >> PLACE_SHIFT >= last:
                rc = self.bump(e & PBA())
                data += 1
                last = (e >> PLACE_SHIFT) + 1
            if rc == -2:
                raise MemoryError()
            if rc and bad < 0:
                bad = i
        return [], data, sparse_end(page), bad

    def compare(self, uint64_t group, const unsigned char[::1] page, uint64_t first, uint64_t last):
        """Compare blocks first..last-1 of a group with its count page (None: all unused).

        Returns (used blocks in each half by the page, used by the references, [(block, counted, references), ...] of at
        most 8 differences, leaked, reachable while free, miscounted).
        """
        cdef uint64_t i, block
        cdef uint32_t have, want
        cdef uint64_t used0 = 0, used1 = 0, wanted = 0, leaked = 0, loose = 0, wrong = 0
        cdef uint32_t *mine = self.groups[group] if group <= self.blocks // GROUP else NULL
        cdef list differences = []
        if page is not None and page.shape[0] != 4096:
            raise ValueError("a page has 4096 bytes")
        for i in range(GROUP):
            block = group * GROUP + i
            have = 0
            if page is not None:
                have = (<uint32_t>page[HEADER + i * 3] | <uint32_t>page[HEADER + i * 3 + 1] << 8
                        | <uint32_t>page[HEADER + i * 3 + 2] << 16)
            want = mine[i] if mine != NULL else 0
            if block < first or block >= last:
                if want == 0:
                    continue
                have = 0
            if have:
                if i < GROUP // 2:
                    used0 += 1
                else:
                    used1 += 1
            if want:
                wanted += 1
            if have == want:
                continue
            if want == 0:
                leaked += 1
            elif have == 0:
                loose += 1
            else:
                wrong += 1
            if len(differences) < 8:
                differences.append((block, have, want))
        return used0, used1, wanted, differences, leaked, loose, wrong

    def groups_in_use(self):
        """The groups that something refers to."""
        cdef uint64_t i
        return [i for i in range(self.blocks // GROUP + 1) if self.groups[i] != NULL]


cdef bint in_group(const unsigned char[::1] page, int i) noexcept:
    """Whether entry i of a level-1 node belongs to a group of more than itself, whose first entry refers to a sparse leaf."""
    cdef uint64_t e = entry_at(&page[0], i)
    cdef int bits = <int>(e >> 48 + GROUP_SHIFT)
    cdef uint64_t first = entry_at(&page[0], i >> bits << bits)
    if bits == 0 or first >> 48 != <uint64_t>(FLAG_NODE | FLAG_SPARSE | bits << GROUP_SHIFT):
        return False
    return e == first if e >> 48 & FLAG_SPARSE else e == <uint64_t>(FLAG_FOLLOW | bits << GROUP_SHIFT) << 48


def group_regions(const unsigned char[::1] page not None, int slot):
    """How many entries of a level-1 node the group has that begins at `slot`; 0: the entry refers to no sparse leaf."""
    cdef uint64_t e = entry_at(&page[0], slot)
    return 1 << (e >> 48 + GROUP_SHIFT) if e >> 48 & FLAG_SPARSE else 0


def sparse_end(const unsigned char[::1] page not None):
    """Where the last block of a sparse leaf ends, counted as its places are."""
    cdef int i
    for i in range(ENTRIES - 1, -1, -1):
        if entry_at(&page[0], i):
            return (entry_at(&page[0], i) >> PLACE_SHIFT) + 1
    return 0


def sparse_start(const unsigned char[::1] page not None):
    """The place of the first block of a sparse leaf."""
    return entry_at(&page[0], 0) >> PLACE_SHIFT


def data_blocks(const unsigned char[::1] page not None, int level):
    """The data blocks that a node refers to: [(slot, block, length), ...]; of a sparse leaf places instead of slots."""
    cdef list found = []
    cdef uint64_t e
    cdef int i
    if page.shape[0] != 4096:
        raise ValueError("a page has 4096 bytes")
    for i in range(ENTRIES):
        e = entry_at(&page[0], i)
        if level == SPARSE_LEVEL:
            if e:
                found.append((e >> PLACE_SHIFT, e & PBA(), 1))
        elif <int>(e >> 48) == FLAG_DATA and level == 0:
            found.append((i, e & ((<uint64_t>1 << 48) - 1), 1))
        elif <int>(e >> 48) == FLAG_HUGE and level == 1:
            found.append((i, e & ((<uint64_t>1 << 48) - 1), ENTRIES))
    return found
