/* Made by setup.py from core/stream/layout.py. */
#ifndef LNT_STREAM_LAYOUT_H
#define LNT_STREAM_LAYOUT_H
#define S_MAGIC 0x53544e4cULL
#define S_VERSION 0x1ULL
#define S_HEADER_BYTES 0x40ULL
#define S_SPAN_BYTES 0x200000ULL
#define S_EXTENT_BYTES 0x8ULL
#define S_MAX_EXTENTS 0x200ULL
#define S_MAX_BODY_BYTES 0x201000ULL
#define S_END_BYTES 0x40ULL
#define S_MAX_SIZE_BYTES 0x100000000000000ULL
#define SH_MAGIC 0
#define SH_VERSION 4
#define SH_TYPE 6
#define SH_FLAGS 7
#define SH_STREAM 8
#define SH_SEQUENCE 16
#define SH_OFFSET 24
#define SH_SPAN 32
#define SH_EXTENTS 40
#define SH_RAW_BYTES 44
#define SH_STORED_BYTES 48
#define SH_BODY_CRC 52
#define SH_RESERVED 56
#define SH_HEADER_CRC 60
#define SX_DELTA 0
#define SX_BLOCKS 2
#define SX_KIND 4
#define SN_FRAMES 0
#define SN_DATA_BYTES 8
#define SN_HOLE_BYTES 16
#define SN_ZERO_BYTES 24
#define SN_SHA256 32
#define STREAM_ST_BEGIN 1
#define STREAM_ST_EXTENTS 2
#define STREAM_ST_HOLE 3
#define STREAM_ST_MARK 4
#define STREAM_ST_KEEPALIVE 5
#define STREAM_ST_ERROR 6
#define STREAM_ST_END 7
#define STREAM_SF_CRITICAL 1
#define STREAM_SF_ZSTD 2
#define STREAM_SF_MORE 4
#define STREAM_SK_DATA 1
#define STREAM_SK_HOLE 2
#define STREAM_SK_ZERO 3
#define STREAM_SS_IDLE 0
#define STREAM_SS_OPEN 1
#define STREAM_SS_OVER 2
#define STREAM_SE_OK 0
#define STREAM_SE_FOREIGN 1
#define STREAM_SE_NEWER 2
#define STREAM_SE_HEADER 3
#define STREAM_SE_BODY 4
#define STREAM_SE_MALFORMED 5
#define STREAM_SE_UNKNOWN 6
#define STREAM_SE_ORDER 7
#define STREAM_SE_STREAM 8
#define STREAM_SE_PACKED 9
#define STREAM_SE_TRUNCATED 10
#define STREAM_SE_ZSTD 11
#define STREAM_SE_MEMORY 12
struct lnt_stream_use { unsigned char offset, span, table; unsigned body; };
static const struct lnt_stream_use lnt_stream_uses[8] = {[1] = {1, 1, 0, 65536}, [2] = {1, 1, 1, 2101248}, [3] = {1, 1, 0, 0}, [4] = {1, 0, 0, 0}, [5] = {0, 0, 0, 0}, [6] = {0, 0, 0, 65536}, [7] = {1, 0, 0, 64}};
/* The state after, and one; 0: out of order. */
static const unsigned char lnt_stream_order[3][8] = {[0][1] = 2, [0][5] = 1, [0][6] = 3, [1][2] = 2, [1][3] = 2, [1][4] = 2, [1][5] = 2, [1][6] = 3, [1][7] = 3};
#endif
