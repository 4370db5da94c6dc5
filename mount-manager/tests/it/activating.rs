//! What activations make (M01-M06, R10).

use std::{os::unix::fs::MetadataExt, path::Path};

use corten_filter::Filters;
use corten_mount_manager::{ActivateOptions, Activations, Scope};
use corten_types::{ErrorKind, Labels};

use crate::support::{Fixture, has_loop_devices, in_own_namespace, kind, loop_devices_below, mount, scope};

#[test]
fn an_image_is_made_attached_mounted_and_written_over_a_lower_folder() {
    in_own_namespace(async |fixture: Fixture| {
        if !has_loop_devices() {
            return;
        }
        let (lower, image) = (fixture.folder("lower"), fixture.data("rw.img"));
        let mounts = [
            mount("mkfs/loop", &image, &["X-containerd.mkfs.size=8MiB", "X-containerd.mkfs.fs=ext4"]),
            mount("format/ext4", "{{ mount 0 }}", &[]),
            mount(
                "format/mkdir/overlay",
                "overlay",
                &[
                    "X-containerd.mkdir.path={{ mount 1 }}/upper:0751:7:8",
                    "X-containerd.mkdir.path={{ mount 1 }}/work",
                    &format!("lowerdir={lower}"),
                    "upperdir={{ mount 1 }}/upper",
                    "workdir={{ mount 1 }}/work",
                ],
            ),
        ];
        let activation = fixture.activate("chain", &mounts).await.unwrap();
        assert_eq!(activation.active.len(), 2);
        let point = Path::new(&activation.active[1].mount_point);
        assert_eq!(point, fixture.root.join("t/1/1"), "the last mount is 1");
        assert_eq!(activation.active[0].mount_point, fixture.root.join("t/1/2").to_str().unwrap());
        assert_eq!(activation.active[0].mount.kind, "loop");
        assert_eq!(activation.system.len(), 1);
        assert_eq!(activation.system[0].kind, "overlay");
        let upper = std::fs::metadata(point.join("upper")).unwrap();
        assert_eq!((upper.mode() & 0o7777, upper.uid(), upper.gid()), (0o751, 7, 8));
        assert_eq!(std::fs::metadata(point.join("work")).unwrap().mode() & 0o7777, 0o700);
        assert_eq!(std::fs::metadata(&image).unwrap().len(), 8 << 20);
        fixture.within(&activation, |folder| {
            assert!(folder.join("lower").exists());
            std::fs::File::create(folder.join("written")).unwrap();
        });
        assert_eq!(fixture.activations.info(&scope(), "chain").await.unwrap(), activation);
        assert_eq!(loop_devices_below(&fixture.root).len(), 1);
        fixture.deactivate("chain").await.unwrap();
        fixture.assert_empty();
        assert!(loop_devices_below(&fixture.root).is_empty());

        let again = fixture.activate("chain", &mounts).await.unwrap();
        fixture.within(&again, |folder| assert!(folder.join("written").exists(), "the image is made once"));
        fixture.deactivate("chain").await.unwrap();
        fixture.assert_empty();
    });
}

#[test]
fn an_image_may_be_mounted_with_the_option_loop() {
    in_own_namespace(async |fixture: Fixture| {
        if !has_loop_devices() {
            return;
        }
        let mounts = [
            mount("mkfs/ext4", &fixture.data("rw.img"), &["X-containerd.mkfs.size=8MiB", "loop", "rw"]),
            mount(
                "format/mkdir/bind",
                "{{ mount 0 }}/fs",
                &["X-containerd.mkdir.path={{ mount 0 }}/fs:755", "bind"],
            ),
        ];
        let activation = fixture.activate("image", &mounts).await.unwrap();
        assert_eq!((activation.active.len(), activation.system.len()), (1, 1));
        fixture.within(&activation, |folder| drop(std::fs::File::create(folder.join("file")).unwrap()));
        assert!(Path::new(&activation.active[0].mount_point).join("fs/file").exists());
        fixture.deactivate("image").await.unwrap();
        fixture.assert_empty();
    });
}

#[test]
fn erofs_images_become_the_layers_of_an_overlay() {
    in_own_namespace(async |fixture: Fixture| {
        let (Some(low), Some(high)) = (fixture.erofs("low"), fixture.erofs("high")) else { return };
        let mounts = [
            mount("erofs", &high, &["ro", "loop"]),
            mount("erofs", &low, &["ro", "loop"]),
            mount("format/overlay", "overlay", &["lowerdir={{ overlay 0 1 }}"]),
        ];
        let activation = fixture.activate("layers", &mounts).await.unwrap();
        assert_eq!(activation.active.len(), 2);
        let points: Vec<&str> = activation.active.iter().map(|active| active.mount_point.as_str()).collect();
        assert_eq!(activation.system[0].options, [format!("lowerdir={}", points.join(":"))]);
        fixture.within(&activation, |folder| {
            for name in ["from-image", "low", "high"] {
                assert!(folder.join(name).exists(), "{name}");
            }
        });
        fixture.deactivate("layers").await.unwrap();
        fixture.assert_empty();
    });
}

#[test]
fn a_temporary_activation_is_mounted_as_a_whole() {
    in_own_namespace(async |fixture: Fixture| {
        let mounts = [
            mount("bind", &fixture.folder("first"), &["rbind"]),
            mount("format/bind", "{{ mount 0 }}", &["rbind", "ro"]),
        ];
        let options = ActivateOptions { temporary: true, ..ActivateOptions::default() };
        let activation =
            fixture.activations.activate(&scope(), "look", mounts.to_vec(), options).await.unwrap();
        assert_eq!(activation.active.len(), 2);
        let expected = mount("bind", &activation.active[1].mount_point, &["rbind"]);
        assert_eq!(activation.system, [expected]);
        fixture.within(&activation, |folder| assert!(folder.join("first").exists()));
        fixture.deactivate("look").await.unwrap();
        fixture.assert_empty();
    });
}

#[test]
fn activations_are_listed_by_name_in_their_namespace() {
    in_own_namespace(async |fixture: Fixture| {
        let mounts = [mount("format/bind", &fixture.folder("f"), &["bind"])];
        for name in ["b", "a", "c"] {
            let labels = Labels::from([("name".to_owned(), name.to_owned())]);
            let options = ActivateOptions { labels, ..ActivateOptions::default() };
            fixture.activations.activate(&scope(), name, mounts.to_vec(), options).await.unwrap();
        }
        let names = async |scope: &Scope, filters: &[&str], after: Option<&str>, limit| {
            let filters = Filters::parse(filters).unwrap();
            let listed = fixture.activations.list(scope, &filters, after, limit).await.unwrap();
            listed.into_iter().map(|activation| activation.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&scope(), &[], None, 10).await, ["a", "b", "c"]);
        assert_eq!(names(&scope(), &[], Some("a"), 1).await, ["b"]);
        assert_eq!(names(&scope(), &["labels.name==c", "name==a"], None, 10).await, ["a", "c"]);
        assert_eq!(names(&Scope::of("other".parse().unwrap()), &[], None, 10).await, [""; 0]);
        for name in ["a", "b", "c"] {
            fixture.deactivate(name).await.unwrap();
        }
        fixture.assert_empty();
    });
}

#[test]
fn of_many_that_want_the_same_name_one_gets_it() {
    in_own_namespace(async |fixture: Fixture| {
        let mounts = vec![
            mount("bind", &fixture.folder("f"), &["bind"]),
            mount("format/bind", "{{ mount 0 }}", &["bind"]),
        ];
        let mut tasks = Vec::new();
        for _ in 0..8 {
            let (activations, mounts): (Activations, _) = (fixture.activations.clone(), mounts.clone());
            tasks.push(tokio::spawn(async move {
                activations.activate(&scope(), "one", mounts, ActivateOptions::default()).await
            }));
        }
        let mut made = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(_) => made += 1,
                Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists),
            }
        }
        assert_eq!((made, fixture.mounted()), (1, 1));
        fixture.deactivate("one").await.unwrap();
        assert_eq!(kind(fixture.deactivate("one").await), ErrorKind::NotFound);
        fixture.assert_empty();
    });
}
