//! What cargo knows of this workspace.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cargo_metadata::{CargoOpt, Metadata, MetadataCommand, Package};

/// The root folder of the workspace.
pub(crate) fn root() -> PathBuf {
    // xtask is a folder of the root; its own manifest's place was fixed when it was compiled.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Packages and their resolved dependencies, all features on.
pub(crate) fn metadata() -> Result<Metadata> {
    MetadataCommand::new()
        .current_dir(root())
        .features(CargoOpt::AllFeatures)
        .exec()
        .context("cargo metadata failed")
}

/// The crates that go to the registry.
pub(crate) fn published(metadata: &Metadata) -> Vec<&Package> {
    let mut packages = metadata.workspace_packages();
    packages.retain(|package| package.publish.as_ref().is_none_or(|registries| !registries.is_empty()));
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    packages
}
