//! A mount namespace and a workspace for one test.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use corten_mount_manager::{
    ActivateOptions, Activation, Activations, MemoryLedger, Options, Scope, Workspace,
};
use corten_types::{ErrorKind, Mount, Result};

fn needs_root() -> bool {
    if rustix::process::geteuid().is_root() {
        return false;
    }
    assert!(std::env::var_os("CORTEN_TEST_ROOT").is_none(), "CORTEN_TEST_ROOT is set, but this is not root");
    println!("skipped: needs root");
    true
}

/// Runs `test` over an empty tmpfs, in a thread with a mount namespace of its own; threads that it starts are in there too.
pub(crate) fn in_own_namespace<F: Future<Output = ()>>(test: impl FnOnce(Fixture) -> F + Send + 'static) {
    if needs_root() {
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    let folder = outside.path().canonicalize().unwrap();
    let thread = std::thread::spawn(move || {
        let flags = rustix::thread::UnshareFlags::NEWNS | rustix::thread::UnshareFlags::FS;
        // SAFETY: only this thread gets a namespace and a working folder of its own, and it ends with the test.
        unsafe { rustix::thread::unshare_unsafe(flags) }.unwrap();
        corten_mount::mount(&mount("", "", &["rprivate", "remount"]), Path::new("/")).unwrap();
        corten_mount::mount(&mount("tmpfs", "tmpfs", &["mode=755"]), &folder).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let fixture = Fixture::new(&folder);
        runtime.block_on(test(fixture));
        drop(runtime);
        assert_eq!(loop_devices_below(&folder), [""; 0], "loop devices are left");
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
    assert_eq!(
        std::fs::read_dir(outside.path()).unwrap().count(),
        0,
        "something leaked out of the namespace"
    );
}

/// Files below `folder` that loop devices stand for.
pub(crate) fn loop_devices_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/sys/block").unwrap() {
        let file = entry.unwrap().path().join("loop/backing_file");
        found.extend(std::fs::read_to_string(file).ok().filter(|file| Path::new(file).starts_with(folder)));
    }
    found
}

pub(crate) struct Fixture {
    pub(crate) root: PathBuf,
    pub(crate) workspace: Arc<Workspace>,
    pub(crate) activations: Activations,
}

impl Fixture {
    fn new(root: &Path) -> Self {
        std::fs::create_dir(root.join("data")).unwrap();
        let workspace = Self::open(root);
        let activations = Activations::new(Arc::clone(&workspace), Arc::new(MemoryLedger::default()));
        Self { root: root.to_owned(), workspace, activations }
    }

    pub(crate) fn open(root: &Path) -> Arc<Workspace> {
        let options = Options { roots: vec![root.join("data")], ..Options::default() };
        Arc::new(Workspace::open(&root.join("t"), options).unwrap())
    }

    /// A path in the allowed root.
    pub(crate) fn data(&self, name: &str) -> String {
        self.root.join("data").join(name).to_str().unwrap().to_owned()
    }

    /// A new folder in the allowed root with one file in it that is called like the folder.
    pub(crate) fn folder(&self, name: &str) -> String {
        let folder = self.data(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::File::create(Path::new(&folder).join(name)).unwrap();
        folder
    }

    pub(crate) async fn activate(&self, name: &str, mounts: &[Mount]) -> Result<Activation> {
        self.activations.activate(&scope(), name, mounts.to_vec(), ActivateOptions::default()).await
    }

    pub(crate) async fn deactivate(&self, name: &str) -> Result<()> {
        self.activations.deactivate(&scope(), name).await
    }

    /// The mounts in the workspace.
    pub(crate) fn mounted(&self) -> usize {
        corten_mount::mounts_below(&self.root.join("t")).unwrap().len()
    }

    pub(crate) fn assert_empty(&self) {
        assert_eq!(self.mounted(), 0);
        assert_eq!(std::fs::read_dir(self.root.join("t")).unwrap().count(), 0, "the workspace is not empty");
    }

    /// Mounts what is left for the caller, runs `look` in it and unmounts it.
    pub(crate) fn within(&self, activation: &Activation, look: impl FnOnce(&Path)) {
        let folder = self.root.join("tmp");
        let mounted = corten_mount::TemporaryMount::new(&activation.system, &folder).unwrap();
        look(mounted.path());
        mounted.close().unwrap();
    }

    /// An erofs image with a file `from-image`; `None` where there is no program to make one.
    pub(crate) fn erofs(&self, name: &str) -> Option<String> {
        let content = self.root.join(format!("content-{name}"));
        std::fs::create_dir(&content).unwrap();
        std::fs::File::create(content.join("from-image")).unwrap();
        std::fs::File::create(content.join(name)).unwrap();
        let image = self.data(&format!("{name}.erofs"));
        match Command::new("mkfs.erofs").arg("--quiet").arg(&image).arg(&content).output() {
            Ok(output) => {
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                Some(image)
            }
            Err(_) => {
                println!("skipped: no mkfs.erofs");
                None
            }
        }
    }
}

pub(crate) fn scope() -> Scope {
    Scope::of("ns".parse().unwrap())
}

pub(crate) fn mount(kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        kind: kind.to_owned(),
        source: source.to_owned(),
        target: String::new(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
    }
}

#[track_caller]
pub(crate) fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.expect_err("this must be refused").kind()
}

pub(crate) fn has_loop_devices() -> bool {
    let has = Path::new("/dev/loop-control").exists();
    if !has {
        println!("skipped: no loop devices");
    }
    has
}
