//! Its tags.

use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{Depth, Key, Result, TagBackend, TagToken};

use super::{BrokenBackend, Defect};

#[async_trait]
impl TagBackend for BrokenBackend {
    async fn tag_tokens(&self, names: &[Key]) -> Result<Vec<Option<TagToken>>> {
        let mut tokens = self.model.tag_tokens(names).await?;
        match self.defect {
            Defect::ReordersTags => tokens.reverse(),
            Defect::InventsATag => {
                let invented = TagToken::from_bytes(&[1; TagToken::LEN]);
                tokens.iter_mut().for_each(|token| *token = token.or(invented));
            }
            _ => {}
        }
        Ok(tokens)
    }

    async fn pin_tags(&self, names: &[Key], fresh: &[TagToken], ttl: Duration) -> Result<Vec<TagToken>> {
        match self.defect {
            Defect::PinsOverAToken => self.model.rotate_tags(names, fresh, Depth::Remove, ttl).await?,
            Defect::PinsForTwentyFourDays if ttl.as_millis() >= 1 << 31 => {
                return self.model.pin_tags(names, fresh, Duration::ZERO).await;
            }
            Defect::PinsForEver => return self.model.pin_tags(names, fresh, Duration::MAX).await,
            _ => {}
        }
        self.model.pin_tags(names, fresh, ttl).await
    }

    async fn rotate_tags(
        &self,
        names: &[Key],
        fresh: &[TagToken],
        depth: Depth,
        ttl: Duration,
    ) -> Result<()> {
        let depth = match self.defect {
            Defect::RotatesOnlyWhatIsThere => {
                for (name, fresh) in names.iter().zip(fresh) {
                    if self.model.tag_tokens(std::slice::from_ref(name)).await?[0].is_some() {
                        self.model.rotate_tags(std::slice::from_ref(name), &[*fresh], depth, ttl).await?;
                    }
                }
                return Ok(());
            }
            Defect::ShortensAnExpiredTag if depth == Depth::Expire => {
                let tokens = self.model.tag_tokens(names).await?;
                self.model.forget_tags(names);
                self.model.rotate_tags(names, fresh, depth, ttl).await?;
                for (token, fresh) in tokens.into_iter().zip(fresh) {
                    let token = token.map(|token| TagToken { expired: fresh.expired, ..token });
                    let token = token.unwrap_or(*fresh);
                    self.model.rotate_tags(names, &[token], Depth::Remove, ttl).await?;
                }
                return Ok(());
            }
            Defect::RotatesNothing => return self.model.pin_tags(names, fresh, ttl).await.map(drop),
            Defect::ExpiresATagAsARemoval => Depth::Remove,
            Defect::RemovesATagAsAnExpiry => Depth::Expire,
            _ => depth,
        };
        self.model.rotate_tags(names, fresh, depth, ttl).await
    }
}
