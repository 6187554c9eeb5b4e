//! Its floors of versions.

use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{Key, Result, VersionBackend};

use super::{BrokenBackend, Defect};

#[async_trait]
impl VersionBackend for BrokenBackend {
    async fn raise(&self, name: &Key, version: u64, ttl: Duration) -> Result<u64> {
        let model = &self.model;
        let before = model.raise(name, 0, ttl).await?;
        let (is_named, is_raised) = (version > 0, version > before);
        match self.defect {
            Defect::LowersAFloor if is_named => model.set_floor(name, version, |now| now + ttl),
            Defect::ComparesVersionsAsDoubles if is_raised && version as f64 <= before as f64 => {}
            Defect::ComparesVersionsSigned if is_raised && version as i64 <= before as i64 => {}
            Defect::AnswersTheFloorThatStands => {
                model.raise(name, version, ttl).await?;
                return model.raise(name, 0, ttl).await;
            }
            Defect::CutsTheLifeOfAFloor if is_named => {
                model.set_floor(name, before.max(version), |now| now + ttl);
            }
            Defect::ProlongsNoFloor if before > 0 => return model.raise(name, version, Duration::ZERO).await,
            Defect::ProlongsOnlyARaisedFloor if !is_raised => {}
            Defect::KeepsFloorsForEver => return model.raise(name, version, Duration::MAX).await,
            Defect::SharesOneFloor => return model.raise(&Key::new("^"), version, ttl).await,
            Defect::OverflowsAFloorsLife if ttl.as_millis() >= 1 << 31 => {}
            Defect::RaisesByReading => return model.raise(name, version.max(1), ttl).await,
            _ => return model.raise(name, version, ttl).await,
        }
        Ok(before)
    }
}
