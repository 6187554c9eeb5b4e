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
