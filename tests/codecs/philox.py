"""Philox4x64-10 in plain integers, after Salmon et al. 2011, doi:10.1145/2063384.2063405."""

MASK = 2**64 - 1


def block(counter, key):
    """Return the four words of one block; counter: four words, key: two."""
    c, k = list(counter), list(key)
    for _ in range(10):
        high0, low0 = divmod(0xD2E7470EE14C6C93 * c[0], 2**64)
        high1, low1 = divmod(0xCA5A826395121157 * c[2], 2**64)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B97F4A7C15) & MASK, (k[1] + 0xBB67AE8584CAA73B) & MASK]
    return c


def words(seed, count):
    """Return the first words of the stream with key `seed`; its blocks are counted from one."""
    return [word for number in range(1, -(-count // 4) + 1) for word in block((number, 0, 0, 0), (seed, 0))][:count]
