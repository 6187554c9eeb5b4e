//! What all rows together say, and what we are after.

use std::fmt::Write;

use benches::contender::{Contender, ENGINE, POLICY, Role};

use super::row::{CROWDS, Row};

/// Below so many entries a cell is told, but not judged.
const JUDGED_FROM: usize = 200;

/// Every row, for means and verdicts.
pub(crate) struct Summary<'a> {
    contenders: &'a [Contender],
    rows: Vec<(&'static str, Row)>,
}

/// How far from someone else's hits, in points, and where.
type Gap<'a> = (f64, &'a Row, &'static str);

impl<'a> Summary<'a> {
    pub(crate) fn new(contenders: &'a [Contender]) -> Self {
        Self { contenders, rows: Vec::new() }
    }

    pub(crate) fn add(&mut self, group: &'static str, row: Row) {
        self.rows.push((group, row));
    }

    pub(crate) fn text(&self) -> String {
        let mut text = self.means();
        text.push('\n');
        for (what, goal, measured, met) in self.verdicts() {
            let verdict = if met { "met" } else { "MISSED" };
            let _ = writeln!(text, "{what:<60}{goal:>8}   {measured:<58}{verdict}");
        }
        text
    }

    fn means(&self) -> String {
        let mut text = format!("{:<16}{:>10}{:>10}{:>10}\n", "share of belady", "generated", "real", "all");
        for (at, one) in self.contenders.iter().enumerate() {
            let mean = |group| self.share(group, at).map_or(String::new(), |mean| format!("{mean:.3}"));
            let (generated, real, all) = (mean(Some("generated")), mean(Some("real")), mean(None));
            let _ = writeln!(text, "{:<16}{generated:>10}{real:>10}{all:>10}", one.name);
        }
        text
    }

    /// The mean share of the ceiling's hits that a contender has, in a group or in all.
    fn share(&self, group: Option<&str>, contender: usize) -> Option<f64> {
        let rows = self.rows.iter().filter(|(of, _)| group.is_none_or(|group| group == *of));
        let share = |row: &Row| row.all[contender].0 as f64 / row.ceiling.max(1) as f64;
        let shares: Vec<f64> = rows.map(|(_, row)| share(row)).collect();
        (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
    }

    /// What, the goal, what was measured, and whether that is enough.
    fn verdicts(&self) -> Vec<(&'static str, &'static str, String, bool)> {
        let mut verdicts = Vec::new();
        let ours = self.at(ENGINE);
        for (what, group, goal, least) in [
            ("mean share of belady, real", "real", "≥ 0.82", 0.82),
            ("mean share of belady, generated", "generated", "≥ 0.88", 0.88),
        ] {
            if let Some(mean) = self.share(Some(group), ours) {
                verdicts.push((what, goal, format!("{mean:.3}"), mean >= least));
            }
        }
        verdicts.extend(self.over_peers(ours));
        for (what, honest) in [
            ("cells of 200 and more within 1.0 point of the best peer", false),
            ("  not counting a peer where it held more than asked", true),
        ] {
            verdicts.extend(self.near_best_peer(what, honest));
        }
        verdicts.extend(self.after_the_loop());
        verdicts.extend(self.shell());
        verdicts
    }

    fn at(&self, name: &str) -> usize {
        self.contenders.iter().position(|one| one.name == name).unwrap_or_default()
    }

    fn over_peers(&self, ours: usize) -> Option<(&'static str, &'static str, String, bool)> {
        let share = |at| self.share(None, at).unwrap_or(0.0);
        let peers = self.contenders.iter().enumerate().filter(|(_, one)| one.role == Role::Peer);
        let (best, name) = peers.map(|(at, one)| (share(at), one.name)).max_by(|a, b| a.0.total_cmp(&b.0))?;
        let measured = format!("{:.3} against {best:.3} of {name}", share(ours));
        Some(("mean over all above every peer", "", measured, share(ours) > best))
    }

    fn near_best_peer(
        &self,
        what: &'static str,
        honest: bool,
    ) -> Vec<(&'static str, &'static str, String, bool)> {
        let ours = self.at(ENGINE);
        let gaps: Vec<Gap<'_>> = self.judged().filter_map(|row| self.gap(row, ours, honest)).collect();
        let Some(worst) = gaps.iter().min_by(|a, b| a.0.total_cmp(&b.0)) else {
            return Vec::new();
        };
        let near = gaps.iter().filter(|(gap, ..)| *gap >= -1.0).count();
        let (gap, row, peer) = worst;
        vec![
            (what, "≥ 90 %", format!("{near} of {}", gaps.len()), near * 10 >= gaps.len() * 9),
            ("  worst of them", "≥ -3.0", format!("{gap:+.2} on {} ({peer})", row.case), *gap >= -3.0),
        ]
    }

    fn judged(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().map(|(_, row)| row).filter(|row| row.capacity >= JUDGED_FROM)
    }

    /// Our points above the best peer. Who has more hits than the ceiling held more than asked, for sure.
    fn gap<'r>(&self, row: &'r Row, ours: usize, honest: bool) -> Option<Gap<'r>> {
        let peers = self.contenders.iter().zip(&row.all).filter(|(one, _)| one.role == Role::Peer);
        let fair =
            peers.filter(|(_, (hits, held))| *hits <= row.ceiling && !(honest && *held > row.capacity));
        let (peer, (hits, _)) = fair.max_by_key(|(_, (hits, _))| *hits)?;
        Some((row.percent(row.all[ours].0) - row.percent(*hits), row, peer.name))
    }

    fn after_the_loop(&self) -> Option<(&'static str, &'static str, String, bool)> {
        let rows = self.rows.iter().map(|(_, row)| row).filter(|row| row.case.starts_with("corda-loop"));
        let hits = |row: &Row, name| row.all[self.at(name)].0 as f64;
        let shares = rows.map(|row| hits(row, ENGINE) / hits(row, "lru").max(hits(row, "s3-fifo")));
        let shares: Vec<f64> = shares.collect();
        let least = shares.iter().copied().min_by(f64::total_cmp)?;
        let percents: Vec<String> = shares.iter().map(|share| format!("{:.1} %", 100.0 * share)).collect();
        let what = "corda → loop → corda, of the better of LRU and S3-FIFO";
        Some((what, "≥ 90 %", percents.join(", "), least >= 0.9))
    }

    /// How far the engine is from its policy, by itself and in crowds.
    fn shell(&self) -> Vec<(&'static str, &'static str, String, bool)> {
        let whats =
            ["engine against its policy, 1 thread, cells of 200 and more", "  4 threads", "  16 threads"];
        let (ours, policy) = (self.at(ENGINE), self.at(POLICY));
        let hits = |row: &Row, crowd: usize| match crowd.checked_sub(1) {
            Some(crowd) => row.crowds[crowd],
            None => row.all[ours].0,
        };
        let verdict = |(crowd, what)| {
            let gaps = self.judged().map(|row| {
                (row.percent(hits(row, crowd)) - row.percent(row.all[policy].0), row.case.as_str())
            });
            let gaps: Vec<(f64, &str)> = gaps.collect();
            let (worst, case) = gaps.iter().min_by(|a, b| a.0.total_cmp(&b.0))?;
            let mean = gaps.iter().map(|(gap, _)| gap).sum::<f64>() / gaps.len() as f64;
            let measured = format!("mean {mean:+.2}, worst {worst:+.2} on {case}");
            Some((what, "≥ -1.0", measured, *worst >= -1.0))
        };
        (0..=CROWDS.len()).zip(whats).filter_map(verdict).collect()
    }
}
