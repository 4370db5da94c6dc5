//! Compiles `api/proto` to Rust and a descriptor set; the results are committed.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use prost::Message;

use crate::process::workspace;

/// Where the generated files live, relative to the workspace.
const GENERATED: &str = "api/src/generated";

/// Services that are only ever spoken over ttrpc; no tonic code is made for them.
const TTRPC_ONLY: [&str; 4] = [
    "containerd.services.events.ttrpc.v1.Events",
    "containerd.task.v2.Task",
    "containerd.task.v3.Task",
    "containerd.runtime.sandbox.v1.Sandbox",
];

/// Generates the code anew.
pub(crate) fn write() -> anyhow::Result<()> {
    let folder = workspace().join(GENERATED);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    for (name, content) in compile()? {
        let mut file = fs::File::create(folder.join(name))?;
        std::io::Write::write_all(&mut file, &content)?;
    }
    Ok(())
}

/// Fails if the committed code is not what `api/proto` compiles to.
pub(crate) fn check() -> anyhow::Result<()> {
    let folder = workspace().join(GENERATED);
    let wanted = compile()?;
    let mut present = BTreeMap::new();
    for entry in fs::read_dir(&folder).context("read the generated code")? {
        let entry = entry?;
        present.insert(entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?);
    }
    if wanted != present {
        let stale: Vec<_> = wanted.iter().filter(|(name, text)| present.get(*name) != Some(text)).collect();
        bail!("{GENERATED} is not current ({} files differ); run `cargo xtask generate`", stale.len());
    }
    Ok(())
}

fn compile() -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let proto = workspace().join("api/proto");
    let mut files = Vec::new();
    collect(&proto, &mut files)?;
    files.sort();
    let mut set = protox::compile(&files, [&proto]).context("compile api/proto")?;
    let mut results = BTreeMap::new();
    results.insert("descriptors.bin".to_owned(), without_sources(&set).encode_to_vec());

    for file in &mut set.file {
        let package = file.package().to_owned();
        file.service
            .retain(|service| !TTRPC_ONLY.contains(&format!("{package}.{}", service.name()).as_str()));
    }
    let out = tempfile::tempdir()?;
    let gate = "#[cfg(feature = \"grpc\")]";
    let mut names = prost_build::Config::new();
    names.enable_type_names();
    tonic_prost_build::configure()
        .out_dir(out.path())
        .bytes(".")
        .btree_map(".")
        .include_file("mod.rs")
        .build_transport(false)
        .client_mod_attribute(".", gate)
        .server_mod_attribute(".", gate)
        .emit_rerun_if_changed(false)
        .compile_fds_with_config(set, names)?;
    for entry in fs::read_dir(out.path())? {
        let entry = entry?;
        results.insert(entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?);
    }
    Ok(results)
}

/// The same set without comments and positions, which only the generator reads.
fn without_sources(set: &prost_types::FileDescriptorSet) -> prost_types::FileDescriptorSet {
    let mut set = set.clone();
    for file in &mut set.file {
        file.source_code_info = None;
    }
    set
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
