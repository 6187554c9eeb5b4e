//! XXH3, 64 bits, seed 0: the hash of keys and names wherever an algorithm does not bring its own. It is specified
//! byte by byte, so any language can follow: <https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md>.

#[rustfmt::skip]
const SECRET: [u8; 192] = [
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
];

const P32_1: u64 = 0x9e37_79b1;
const P32_2: u64 = 0x85eb_ca77;
const P32_3: u64 = 0xc2b2_ae3d;
const P64_1: u64 = 0x9e37_79b1_85eb_ca87;
const P64_2: u64 = 0xc2b2_ae3d_27d4_eb4f;
const P64_3: u64 = 0x1656_67b1_9e37_79f9;
const P64_4: u64 = 0x85eb_ca77_c2b2_ae63;
const P64_5: u64 = 0x27d4_eb2f_1656_67c5;
const MIX_1: u64 = 0x1656_6791_9e37_79f9;
const MIX_2: u64 = 0x9fb2_1c65_1e98_df25;

/// XXH3-64 of `bytes` with seed 0.
#[inline]
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    match bytes.len() {
        0..=16 => short(bytes),
        17..=128 => middle(bytes),
        129..=240 => longer(bytes),
        _ => long(bytes),
    }
}

/// Turns a hash into another, one to one: what follows XXH3's inputs of 4 to 8 bytes.
#[inline]
pub(crate) fn remix(hash: u64) -> u64 {
    let mixed = (hash ^ hash.rotate_left(49) ^ hash.rotate_left(24)).wrapping_mul(MIX_2);
    let mixed = (mixed ^ ((mixed >> 35).wrapping_add(8))).wrapping_mul(MIX_2);
    mixed ^ (mixed >> 28)
}

#[inline]
fn short(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    match len {
        0 => avalanche_64(secret(56) ^ secret(64)),
        1..=3 => {
            let byte = |at: usize| u64::from(bytes[at]);
            let word = (byte(0) << 16) | (byte(len >> 1) << 24) | byte(len - 1) | ((len as u64) << 8);
            avalanche_64(word ^ (secret(0) as u32 as u64 ^ secret(4) as u32 as u64))
        }
        4..=8 => {
            let word = u64::from(read_32(bytes, len - 4)) | (u64::from(read_32(bytes, 0)) << 32);
            let word = word ^ secret(8) ^ secret(16);
            let mixed = (word ^ word.rotate_left(49) ^ word.rotate_left(24)).wrapping_mul(MIX_2);
            let mixed = (mixed ^ ((mixed >> 35).wrapping_add(len as u64))).wrapping_mul(MIX_2);
            mixed ^ (mixed >> 28)
        }
        _ => {
            let low = read(bytes, 0) ^ secret(24) ^ secret(32);
            let high = read(bytes, len - 8) ^ secret(40) ^ secret(48);
            let sum = (len as u64).wrapping_add(low.swap_bytes()).wrapping_add(high);
            avalanche(sum.wrapping_add(fold(low, high)))
        }
    }
}

#[inline]
fn middle(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    let mut sum = (len as u64).wrapping_mul(P64_1);
    for pair in (0..=(len - 1) / 32).rev() {
        sum = sum.wrapping_add(mix(bytes, 16 * pair, 32 * pair));
        sum = sum.wrapping_add(mix(bytes, len - 16 * (pair + 1), 32 * pair + 16));
    }
    avalanche(sum)
}

#[cold]
fn longer(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    let mut sum = (len as u64).wrapping_mul(P64_1);
    for at in (0..128).step_by(16) {
        sum = sum.wrapping_add(mix(bytes, at, at));
    }
    sum = avalanche(sum);
    for at in (128..len / 16 * 16).step_by(16) {
        sum = sum.wrapping_add(mix(bytes, at, at - 128 + 3));
    }
    avalanche(sum.wrapping_add(mix(bytes, len - 16, 136 - 17)))
}

const STRIPE: usize = 64;
const STRIPES_A_BLOCK: usize = (SECRET.len() - STRIPE) / 8;

#[cold]
fn long(bytes: &[u8]) -> u64 {
    let mut lanes = [P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1];
    for stripe in 0..(bytes.len() - 1) / STRIPE {
        let in_block = stripe % STRIPES_A_BLOCK;
        accumulate(&mut lanes, bytes, stripe * STRIPE, 8 * in_block);
        if in_block == STRIPES_A_BLOCK - 1 {
            scramble(&mut lanes);
        }
    }
    accumulate(&mut lanes, bytes, bytes.len() - STRIPE, SECRET.len() - STRIPE - 7);
    let mut sum = (bytes.len() as u64).wrapping_mul(P64_1);
    for (at, pair) in lanes.chunks_exact(2).enumerate() {
        sum = sum.wrapping_add(fold(pair[0] ^ secret(11 + 16 * at), pair[1] ^ secret(19 + 16 * at)));
    }
    avalanche(sum)
}

fn accumulate(lanes: &mut [u64; 8], bytes: &[u8], at: usize, secret_at: usize) {
    for lane in 0..8 {
        let word = read(bytes, at + 8 * lane);
        let keyed = word ^ secret(secret_at + 8 * lane);
        lanes[lane ^ 1] = lanes[lane ^ 1].wrapping_add(word);
        lanes[lane] = lanes[lane].wrapping_add((keyed & 0xffff_ffff).wrapping_mul(keyed >> 32));
    }
}

fn scramble(lanes: &mut [u64; 8]) {
    for (at, lane) in lanes.iter_mut().enumerate() {
        let keyed = *lane ^ (*lane >> 47) ^ secret(SECRET.len() - STRIPE + 8 * at);
        *lane = keyed.wrapping_mul(P32_1);
    }
}

#[inline]
fn mix(bytes: &[u8], at: usize, secret_at: usize) -> u64 {
    fold(read(bytes, at) ^ secret(secret_at), read(bytes, at + 8) ^ secret(secret_at + 8))
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

#[inline]
fn avalanche(hash: u64) -> u64 {
    let mixed = (hash ^ (hash >> 37)).wrapping_mul(MIX_1);
    mixed ^ (mixed >> 32)
}

#[inline]
fn avalanche_64(hash: u64) -> u64 {
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(P64_2);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(P64_3);
    mixed ^ (mixed >> 32)
}

#[inline]
fn secret(at: usize) -> u64 {
    read(&SECRET, at)
}

#[inline]
fn read(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[inline]
fn read_32(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn every_length_hashes_as_another_implementation_of_xxh3_does() {
        let bytes: Vec<u8> = (0..5_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for len in (0..1_300).chain([2_048, 2_049, 4_095, 4_096, 5_000]) {
            assert_eq!(hash(&bytes[..len]), xxhash_rust::xxh3::xxh3_64(&bytes[..len]), "{len} bytes");
        }
    }

    #[test]
    fn the_hash_of_nothing_is_the_published_one() {
        assert_eq!(hash(b""), 0x2d06_8005_38d3_94c2);
    }
}
