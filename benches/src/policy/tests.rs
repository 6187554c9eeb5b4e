//! What is known of the policies: published counts, exact counts on generated keys, and their bounds.

use super::*;

#[cfg(feature = "traces")]
fn by_golden_name(name: &str, capacity: usize) -> Option<Box<dyn Policy>> {
    Some(match name {
        "FIFO" => Box::new(Fifo::new(capacity)),
        "LRU" => Box::new(Lru::new(capacity)),
        "CLOCK" => Box::new(Clock::new(capacity)),
        "SIEVE" => Box::new(Sieve::new(capacity)),
        "S3-FIFO" => Box::new(S3Fifo::new(capacity)),
        "ARC" => Box::new(ArcCache::new(capacity)),
        _ => return None,
    })
}

/// Runs where `CACHALOT_TRACES` names a folder with traces and the hits that others counted on them.
#[cfg(feature = "traces")]
#[test]
fn policies_by_the_book_have_exactly_the_hits_that_others_counted() {
    let Some(folder) = crate::trace::folder() else {
        return;
    };
    let golden = std::fs::read_to_string(folder.join("golden_hits.tsv")).unwrap();
    let traces = crate::trace::files(&folder).unwrap();
    let (mut checked, mut wrong) = (0, Vec::new());
    for line in golden.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [name, capacity, algorithm, hits_counted, requests, ..] = columns[..] else { continue };
        let trace = traces.iter().find(|trace| trace.name == name).unwrap();
        assert_eq!(trace.keys.len(), requests.parse::<usize>().unwrap(), "{name}");
        let capacity = capacity.parse().unwrap();
        let ours = match by_golden_name(algorithm, capacity) {
            Some(mut policy) => hits(policy.as_mut(), &trace.keys),
            None if algorithm == "OPT" => belady(&trace.keys, capacity),
            None => continue,
        };
        checked += 1;
        if ours != hits_counted.parse::<u64>().unwrap() {
            wrong.push(format!("{line}: ours {ours}"));
        }
    }
    println!("{checked} counts checked");
    assert!(checked > 300, "only {checked}");
    assert!(wrong.is_empty(), "{} of {checked}:\n{}", wrong.len(), wrong.join("\n"));
}

/// A policy that holds at most a capacity.
type Build = fn(usize) -> Box<dyn Policy>;

const ALL: [(&str, Build); 8] = [
    ("fifo", |capacity| Box::new(Fifo::new(capacity))),
    ("lru", |capacity| Box::new(Lru::new(capacity))),
    ("clock", |capacity| Box::new(Clock::new(capacity))),
    ("sieve", |capacity| Box::new(Sieve::new(capacity))),
    ("s3-fifo", |capacity| Box::new(S3Fifo::new(capacity))),
    ("arc", |capacity| Box::new(ArcCache::new(capacity))),
    ("rings", |capacity| Box::new(Adaptive::in_rings(capacity))),
    ("adaptive", |capacity| Box::new(Adaptive::in_sets(capacity))),
];

/// Belady's hits and then those of [`ALL`], with room for a twentieth of the keys.
const PINNED: [(&str, [u64; 9]); 8] = [
    ("zipf-0.7", [197080, 84953, 95452, 99724, 130821, 135667, 131531, 137388, 137244]),
    ("zipf-0.9", [268378, 176351, 192979, 197742, 225086, 228292, 225637, 230960, 230220]),
    ("zipf-1.1", [333323, 277467, 292551, 295907, 313127, 313667, 312548, 315534, 315402]),
    ("scan-zipf", [210323, 143033, 157051, 160906, 181220, 184250, 187002, 185407, 184551]),
    ("loop", [14000, 0, 0, 0, 0, 0, 0, 13584, 13463]),
    ("shift", [246741, 200649, 211765, 213584, 187611, 210368, 215354, 212440, 212351]),
    ("corda-like", [49946, 49946, 49946, 49946, 4903, 49946, 49701, 49642, 49570]),
    ("corda-loop-corda", [183554, 183554, 183554, 183554, 6723, 183554, 180555, 180326, 181431]),
];

#[test]
fn hits_on_generated_workloads_are_the_same_to_the_last() {
    let mut wrong = Vec::new();
    for (trace, (name, pinned)) in crate::trace::generated().iter().zip(PINNED) {
        assert_eq!(trace.name, name);
        let capacity = trace.distinct() / 20;
        let mut counted = vec![belady(&trace.keys, capacity)];
        counted.extend(ALL.map(|(_, build)| hits(build(capacity).as_mut(), &trace.keys)));
        if counted != pinned {
            wrong.push(format!("{name}: {counted:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_policy_holds_more_than_its_capacity_or_beats_belady() {
    let keys: Vec<u64> =
        crate::trace::generated().iter().flat_map(|trace| trace.keys[..5_000].to_vec()).collect();
    for capacity in [1, 2, 3, 10, 33, 100, 1_000] {
        let ceiling = belady(&keys, capacity);
        for (name, build) in ALL {
            let mut policy = build(capacity);
            let mut hits = 0;
            for &key in &keys {
                hits += u64::from(policy.access(key));
                assert!(policy.held() <= capacity, "{name} of {capacity} holds {}", policy.held());
            }
            assert!(hits <= ceiling, "{name} of {capacity}: {hits} of {ceiling}");
        }
    }
}

#[test]
fn a_capacity_of_zero_counts_as_one() {
    for (name, build) in ALL {
        let mut policy = build(0);
        assert_eq!(hits(policy.as_mut(), &[7, 7, 7]), 2, "{name}");
    }
}

#[test]
fn whoever_fits_is_found_again() {
    let keys: Vec<u64> = (0..500).chain(0..500).collect();
    for (name, build) in ALL {
        let found = hits(build(1_000).as_mut(), &keys);
        assert_eq!(found, 500, "{name}");
    }
}

#[test]
fn belady_takes_in_only_what_pays() {
    // With one place, holding the 1 gives two hits; taking in the 2 or the 3 would lose one.
    assert_eq!(belady(&[1, 2, 1, 3, 1], 1), 2);
    assert_eq!(belady(&[1, 2, 3, 1, 2, 3], 2), 2);
}

#[test]
fn after_a_loop_the_adaptive_policy_is_near_the_better_of_lru_and_s3_fifo() {
    let traces = crate::trace::generated();
    let trace = traces.iter().find(|trace| trace.name == "corda-loop-corda").unwrap();
    for percent in [1, 5, 10] {
        let capacity = trace.distinct() * percent / 100;
        let lru = hits(&mut Lru::new(capacity), &trace.keys);
        let s3_fifo = hits(&mut S3Fifo::new(capacity), &trace.keys);
        let ours = hits(&mut Adaptive::in_sets(capacity), &trace.keys);
        assert!(ours * 10 >= lru.max(s3_fifo) * 9, "{percent} %: {ours} against {lru} and {s3_fifo}");
    }
}
