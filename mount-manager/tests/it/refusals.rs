//! What is refused, and that nothing is left then.

use std::path::Path;

use corten_types::ErrorKind;

use crate::support::{Fixture, in_own_namespace, kind, mount, scope};

#[test]
fn what_needs_no_handling_is_left_to_the_caller() {
    in_own_namespace(async |fixture: Fixture| {
        for kinds in [&["overlay"][..], &["bind", "tmpfs"], &[], &["unknown/overlay"]] {
            let mounts: Vec<_> = kinds.iter().map(|kind| mount(kind, "x", &[])).collect();
            assert_eq!(kind(fixture.activate("m", &mounts).await), ErrorKind::Unimplemented);
        }
        assert_eq!(kind(fixture.activations.info(&scope(), "m").await), ErrorKind::NotFound);
        assert_eq!(kind(fixture.activate("", &[mount("loop", "x", &[])]).await), ErrorKind::InvalidArgument);
        fixture.assert_empty();
    });
}

#[test]
fn a_failure_in_the_middle_undoes_what_was_mounted() {
    in_own_namespace(async |fixture: Fixture| {
        let good = mount("bind", &fixture.folder("f"), &["bind"]);
        for (bad, class) in [
            (mount("no-such-filesystem", "x", &[]), ErrorKind::InvalidArgument),
            (mount("bind", "/no/such/folder", &["bind"]), ErrorKind::NotFound),
            (mount("format/bind", "{{ mount 7 }}", &["bind"]), ErrorKind::InvalidArgument),
            (mount("loop", "/no/such/file", &[]), ErrorKind::NotFound),
            (mount("loop", &fixture.data("f/f"), &["unknown"]), ErrorKind::InvalidArgument),
            (mount("erofs", "/x", &["X-containerd.dmverity=/y"]), ErrorKind::FailedPrecondition),
        ] {
            let mounts = [good.clone(), bad.clone(), mount("format/bind", "{{ mount 0 }}", &["bind"])];
            let refused = fixture.activate("m", &mounts).await.expect_err("it cannot be mounted");
            // A kernel says that it does not know a filesystem with ENODEV.
            if bad.kind != "no-such-filesystem" {
                assert_eq!(refused.kind(), class, "{bad:?}: {refused}");
            }
            fixture.assert_empty();
        }
        let mounts = [good, mount("format/bind", "{{ mount 0 }}", &["bind"])];
        fixture.activate("m", &mounts).await.unwrap();
        assert_eq!(kind(fixture.activate("m", &mounts).await), ErrorKind::AlreadyExists);
        fixture.deactivate("m").await.unwrap();
    });
}

#[test]
fn nothing_is_made_outside_of_the_allowed_folders() {
    in_own_namespace(async |fixture: Fixture| {
        let outside = fixture.root.join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, fixture.data("absolute")).unwrap();
        std::os::unix::fs::symlink("../outside", fixture.data("relative")).unwrap();
        let inside = fixture.folder("f");
        let near = fixture.root.join("database").to_str().unwrap().to_owned();
        let paths = [
            outside.join("x").to_str().unwrap().to_owned(),
            fixture.data("absolute/x"),
            fixture.data("relative/x"),
            fixture.data("../outside/x"),
            fixture.data(""),
            fixture.data(".."),
            near,
            "relative".to_owned(),
            String::new(),
        ];
        for path in paths {
            let option = format!("X-containerd.mkdir.path={path}");
            let refused = fixture.activate("m", &[mount("mkdir/bind", &inside, &["bind", &option])]).await;
            assert_eq!(kind(refused), ErrorKind::PermissionDenied, "{path}");
            let image = mount("mkfs/ext4", &path, &["loop", "X-containerd.mkfs.size=1MiB"]);
            assert_eq!(kind(fixture.activate("m", &[image]).await), ErrorKind::PermissionDenied, "{path}");
        }
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        let missing = format!("X-containerd.mkdir.path={}", fixture.data("no/such/x"));
        let refused = fixture.activate("m", &[mount("mkdir/bind", &inside, &[&missing])]).await;
        assert_eq!(kind(refused), ErrorKind::NotFound);
        fixture.assert_empty();
    });
}

#[test]
fn an_image_that_cannot_be_formatted_leaves_no_file() {
    in_own_namespace(async |fixture: Fixture| {
        let options = ["X-containerd.mkfs.size=1MiB", "X-containerd.mkfs.uuid=no-uuid", "loop"];
        let image = fixture.data("image");
        let refused = fixture.activate("m", &[mount("mkfs/ext4", &image, &options)]).await.unwrap_err();
        assert!(refused.chain().contains("mkfs.ext4"), "{}", refused.chain());
        assert_eq!(std::fs::read_dir(Path::new(&image).parent().unwrap()).unwrap().count(), 0);
        fixture.assert_empty();
    });
}
