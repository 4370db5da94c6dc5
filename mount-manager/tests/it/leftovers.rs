//! What crashes, reboots and users of mounts leave (M02).

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use corten_filter::Filters;
use corten_mount::UnmountFlags;
use corten_mount_manager::{
    ActivateOptions, Activations, Begun, Entry, Found, Ledger, MemoryLedger, ReadLedger, Scope,
};
use corten_types::{Error, ErrorKind, Labels, Mount, Result};

use crate::support::{Fixture, has_loop_devices, in_own_namespace, kind, loop_devices_below, mount, scope};

/// A ledger whose program dies when an activation is to be finished: nothing is written any more.
#[derive(Default)]
struct Dying(Arc<MemoryLedger>);

#[async_trait]
impl ReadLedger for Dying {
    async fn get(&self, scope: &Scope, name: &str) -> Result<Entry> {
        self.0.get(scope, name).await
    }

    async fn list(
        &self,
        scope: &Scope,
        filters: &Filters,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Entry>> {
        self.0.list(scope, filters, after, limit).await
    }
}

#[async_trait]
impl Ledger for Dying {
    async fn begin(&self, scope: &Scope, name: &str, labels: Labels) -> Result<Begun> {
        self.0.begin(scope, name, labels).await
    }

    async fn finish(&self, _: &Scope, _: &str, _: u64, _: bytes::Bytes) -> Result<()> {
        std::future::pending().await
    }

    async fn end(&self, _: &Scope, _: &str, _: Option<u64>) -> Result<u64> {
        Err(Error::internal("the program is dead"))
    }
}

fn chain(fixture: &Fixture, folder: &str) -> Vec<Mount> {
    let source = fixture.data(folder);
    vec![mount("bind", &source, &["bind"]), mount("format/bind", "{{ mount 0 }}", &["bind"])]
}

#[test]
fn an_activation_that_was_never_finished_is_redone() {
    in_own_namespace(async |fixture: Fixture| {
        fixture.folder("f");
        let ledger = Arc::new(MemoryLedger::default());
        let dying = Activations::new(fixture.workspace.clone(), Arc::new(Dying(ledger.clone())));
        let mounts = chain(&fixture, "f");
        let lost = tokio::spawn({
            let mounts = mounts.clone();
            async move { dying.activate(&scope(), "m", mounts, ActivateOptions::default()).await }
        });
        while fixture.mounted() == 0 {
            tokio::task::yield_now().await;
        }
        // Until it holds at `finish`, the workspace is at work.
        while fixture.workspace.found().unwrap() != [Found { number: 1, whole: true }] {
            tokio::task::yield_now().await;
        }
        lost.abort();
        let reborn = Activations::new(Fixture::open(&fixture.root), ledger);
        assert_eq!(kind(reborn.info(&scope(), "m").await), ErrorKind::NotFound);
        let again = reborn.activate(&scope(), "m", mounts, ActivateOptions::default()).await.unwrap();
        assert_eq!(again.active[0].mount_point, fixture.root.join("t/2/1").to_str().unwrap());
        assert_eq!(fixture.mounted(), 1, "what was left is unmounted");
        reborn.deactivate(&scope(), "m").await.unwrap();
        fixture.assert_empty();
    });
}

#[test]
fn after_a_restart_activations_are_whole_and_after_a_reboot_they_are_not() {
    in_own_namespace(async |fixture: Fixture| {
        fixture.folder("f");
        fixture.activate("m", &chain(&fixture, "f")).await.unwrap();
        let restarted = Fixture::open(&fixture.root);
        assert_eq!(restarted.found().unwrap(), [Found { number: 1, whole: true }]);
        corten_mount::unmount_recursive(&fixture.root.join("t"), UnmountFlags::NONE).unwrap();
        assert_eq!(restarted.found().unwrap(), [Found { number: 1, whole: false }]);
        restarted.remove(1).unwrap();
        assert_eq!(kind(restarted.remove(1)), ErrorKind::NotFound);
        fixture.assert_empty();
        assert!(Path::new(&fixture.data("f/f")).exists());
    });
}

#[test]
fn a_device_that_became_another_ones_is_left_alone() {
    in_own_namespace(async |fixture: Fixture| {
        if !has_loop_devices() {
            return;
        }
        for name in ["ours", "theirs"] {
            std::fs::File::create(fixture.data(name)).unwrap().set_len(1 << 20).unwrap();
        }
        let ours = fixture.activate("ours", &[mount("loop", &fixture.data("ours"), &["ro"])]).await.unwrap();
        let theirs =
            fixture.activate("theirs", &[mount("loop", &fixture.data("theirs"), &[])]).await.unwrap();
        assert!(ours.system.is_empty());
        let (point, other) = (&ours.active[0].mount_point, &theirs.active[0].mount_point);
        let device = std::fs::read_link(point).unwrap();
        let read_only = Path::new("/sys/block").join(device.file_name().unwrap()).join("ro");
        assert_eq!(std::fs::read_to_string(read_only).unwrap().trim(), "1");
        std::fs::remove_file(point).unwrap();
        std::os::unix::fs::symlink(std::fs::read_link(other).unwrap(), point).unwrap();
        let found = fixture.workspace.found().unwrap();
        assert!(found.contains(&Found { number: 1, whole: false }), "{found:?}");
        assert!(found.contains(&Found { number: 2, whole: true }), "{found:?}");
        fixture.deactivate("ours").await.unwrap();
        assert_eq!(loop_devices_below(&fixture.root).len(), 2, "the other one's device stays");
        corten_mount::release_loop_device(&device).unwrap();
        std::fs::remove_file(fixture.data("theirs")).unwrap();
        fixture.deactivate("theirs").await.unwrap();
        fixture.assert_empty();
    });
}

#[test]
fn a_mount_in_use_stays_until_it_can_go_and_loses_no_file() {
    in_own_namespace(async |fixture: Fixture| {
        fixture.folder("f");
        let activation = fixture.activate("m", &chain(&fixture, "f")).await.unwrap();
        let used = std::fs::File::open(Path::new(&activation.active[0].mount_point).join("f")).unwrap();
        assert_eq!(kind(fixture.deactivate("m").await), ErrorKind::Unavailable);
        assert_eq!(fixture.mounted(), 1);
        drop(used);
        fixture.workspace.remove(1).unwrap();
        fixture.assert_empty();
        assert!(Path::new(&fixture.data("f/f")).exists());
    });
}

#[test]
fn files_that_are_in_the_way_are_never_removed() {
    in_own_namespace(async |fixture: Fixture| {
        fixture.folder("f");
        let activation = fixture.activate("m", &chain(&fixture, "f")).await.unwrap();
        let point = Path::new(&activation.active[0].mount_point);
        corten_mount::unmount(point, UnmountFlags::NONE).unwrap();
        std::fs::File::create(point.join("precious")).unwrap();
        assert!(fixture.deactivate("m").await.is_err());
        assert!(point.join("precious").exists());
    });
}
