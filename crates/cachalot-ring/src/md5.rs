//! MD5 (RFC 1321), for placements that other software defines by it. It protects nothing here.

#[rustfmt::skip]
const SINES: [u32; 64] = [
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
    0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
    0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
    0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
    0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
    0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
    0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
    0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391,
];

const BLOCK: usize = 64;
/// A last block with more than this has no room for the length.
const LAST_MAX: usize = BLOCK - 8;

/// The MD5 digest of `bytes`.
pub(crate) fn md5(bytes: &[u8]) -> [u8; 16] {
    let mut state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    let mut blocks = bytes.chunks_exact(BLOCK);
    for block in &mut blocks {
        compress(&mut state, block);
    }
    let rest = blocks.remainder();
    let mut last = [0; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    last[rest.len()] = 0x80;
    if rest.len() >= LAST_MAX {
        compress(&mut state, &last);
        last = [0; BLOCK];
    }
    let bits = (bytes.len() as u64).wrapping_mul(8);
    last[LAST_MAX..].copy_from_slice(&bits.to_le_bytes());
    compress(&mut state, &last);
    digest(state)
}

fn digest(state: [u32; 4]) -> [u8; 16] {
    let mut digest = [0; 16];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    digest
}

/// `block` has 64 bytes.
fn compress(state: &mut [u32; 4], block: &[u8]) {
    let mut words = [0; 16];
    for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
        *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    let mut next = *state;
    round::<0, 1, 0>(&mut next, &words, [7, 12, 17, 22], |b, c, d| d ^ (b & (c ^ d)));
    // The two halves share no bit, so their sum is their union, and one of them does not wait for `b`.
    round::<16, 5, 1>(&mut next, &words, [5, 9, 14, 20], |b, c, d| (b & d).wrapping_add(c & !d));
    round::<32, 3, 5>(&mut next, &words, [4, 11, 16, 23], |b, c, d| b ^ (c ^ d));
    round::<48, 7, 0>(&mut next, &words, [6, 10, 15, 21], |b, c, d| c ^ (b | !d));
    for (word, new) in state.iter_mut().zip(next) {
        *word = word.wrapping_add(new);
    }
}

/// Sixteen steps from step `FROM`, which take the words `STRIDE * step + FIRST`.
#[inline(always)]
fn round<const FROM: usize, const STRIDE: usize, const FIRST: usize>(
    state: &mut [u32; 4],
    words: &[u32; 16],
    turns: [u32; 4],
    join: impl Fn(u32, u32, u32) -> u32,
) {
    let [mut a, mut b, mut c, mut d] = *state;
    let input = |step: usize| SINES[FROM + step].wrapping_add(words[(STRIDE * step + FIRST) % 16]);
    for step in (0..16).step_by(4) {
        a = turn(a.wrapping_add(input(step)), join(b, c, d), turns[0], b);
        d = turn(d.wrapping_add(input(step + 1)), join(a, b, c), turns[1], a);
        c = turn(c.wrapping_add(input(step + 2)), join(d, a, b), turns[2], d);
        b = turn(b.wrapping_add(input(step + 3)), join(c, d, a), turns[3], c);
    }
    *state = [a, b, c, d];
}

#[inline(always)]
fn turn(early: u32, joined: u32, bits: u32, next: u32) -> u32 {
    early.wrapping_add(joined).rotate_left(bits).wrapping_add(next)
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use core::fmt::Write;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        md5(bytes).iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        })
    }

    #[test]
    fn the_test_suite_of_rfc_1321_passes() {
        let digits = b"12345678901234567890123456789012345678901234567890123456789012345678901234567890";
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        assert_eq!(hex(b""), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(hex(b"a"), "0cc175b9c0f1b6a831c399e269772661");
        assert_eq!(hex(b"abc"), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(hex(b"message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
        assert_eq!(hex(b"abcdefghijklmnopqrstuvwxyz"), "c3fcd3d76192e4007dfb496cca67e13b");
        assert_eq!(hex(letters), "d174ab98d277d9f5a5611c2c9f419d9f");
        assert_eq!(hex(digits), "57edf4a22be3c955ac49da2e2107b67a");
    }

    #[test]
    fn lengths_around_the_end_of_a_block_are_padded_right() {
        // From `md5sum` of so many letters a.
        assert_eq!(hex(&[b'a'; 55]), "ef1772b6dff9a122358552954ad0df65");
        assert_eq!(hex(&[b'a'; 56]), "3b0c8ac703f828b04c6c197006d17218");
        assert_eq!(hex(&[b'a'; 63]), "b06521f39153d618550606be297466d5");
        assert_eq!(hex(&[b'a'; 64]), "014842d480b571495a4a0363793f7367");
        assert_eq!(hex(&[b'a'; 65]), "c743a45e0d2e6a95cb859adae0248435");
        assert_eq!(hex(&[b'a'; 120]), "5f61c0ccad4cac44c75ff505e1f1e537");
    }
}
