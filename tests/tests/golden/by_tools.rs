//! Layers that other programs wrote.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use crate::{Case, REFUSED};

fn run(program: &str, arguments: &[&str], folder: &Path) -> Vec<u8> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; `cargo xtask machine` installs it"));
    assert!(output.status.success(), "{program} {arguments:?}");
    output.stdout
}

/// A tree with a bit of everything, and one that was changed after it.
fn make_tree(folder: &Path) {
    let script =
        "mkdir -p usr/bin usr/lib etc/empty var/log; echo tool > usr/bin/tool; chmod 4755 usr/bin/tool
        ln usr/bin/tool usr/bin/again; ln -s usr/bin bin; ln -s /nowhere/at/all dangling; mkfifo var/pipe
        mknod var/null c 1 3; mknod var/disk b 7 200; chmod 1777 var/log; chown -R 1000:2000 etc
        head -c 100000 /dev/zero | tr '\\0' z > usr/lib/large; echo $(seq 500) > usr/lib/text
        mkdir -p $(printf 'd%.0s' $(seq 120))/$(printf 'e%.0s' $(seq 120))
        echo long > $(printf 'd%.0s' $(seq 120))/$(printf 'e%.0s' $(seq 120))/$(printf 'f%.0s' $(seq 120))
        ln -s $(printf 't%.0s' $(seq 150)) far; echo accent > 'caf\u{e9} au lait'
        find . -depth -exec touch -h -d @1234567890 {} +
        touch -d '@1234567890.123456789' usr/lib/text";
    run("sh", &["-ec", script], folder);
    xattr::set(folder.join("usr/bin/tool"), "user.comment", b"kept").unwrap();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    xattr::set(folder.join("usr/lib/text"), "security.capability", &capability).unwrap();
}

pub(crate) fn cases(scratch: &Path) -> Vec<Case> {
    let [tree, sparse, odd, umoci] = ["tree", "sparse", "odd", "umoci"].map(|name| {
        let path = scratch.join(name);
        fs::create_dir(&path).unwrap();
        path
    });
    make_tree(&tree);
    let mut cases = Vec::new();
    for format in ["gnu", "oldgnu", "pax", "ustar"] {
        let format_option = format!("--format={format}");
        let mut arguments = vec!["--sort=name", format_option.as_str(), "-cf", "-", "."];
        if format == "pax" {
            arguments.insert(0, "--xattrs");
            arguments.insert(1, "--xattrs-include=*");
        }
        // The oldest formats cannot hold the longest names.
        if format == "ustar" {
            arguments.splice(0..0, ["--exclude=far", "--exclude=dddd*"]);
        }
        cases.push(Case::new(format!("tar-{format}"), vec![run("tar", &arguments, &tree)]));
    }
    for format in ["pax", "gnutar", "ustar"] {
        let mut arguments = vec!["--format", format, "-cf", "-"];
        if format == "ustar" {
            arguments.extend(["--exclude", "./far", "--exclude", "./dddd*"]);
        }
        arguments.push(".");
        cases.push(Case::new(format!("bsdtar-{format}"), vec![run("bsdtar", &arguments, &tree)]));
    }
    for format in ["GNU_FORMAT", "PAX_FORMAT"] {
        let script = format!(
            "import tarfile,sys; t=tarfile.open(fileobj=sys.stdout.buffer,mode='w|',format=tarfile.{format}); \
             t.add('.'); t.close()"
        );
        let name = format!("python-{}", &format[..3].to_lowercase());
        cases.push(Case::new(name, vec![run("python3", &["-c", &script], &tree)]));
    }
    cases.extend(sparse_files(&sparse));
    cases.push(odd_numbers(&odd));
    cases.push(umoci_image(&umoci));
    cases
}

/// A file with holes, in every form that there is.
fn sparse_files(folder: &Path) -> Vec<Case> {
    let filled = |name: &str, layer| {
        let reason = "holes stay holes; containerd writes zeros";
        Case::new(name, layer).but("overlayfs", &["holes"], reason).but("native", &["holes"], reason)
    };
    let reason = "GNU's old sparse files are read, too";
    let script = "truncate -s 1M holes; printf data | dd of=holes bs=1 seek=70000 conv=notrunc status=none; \
                  touch -d @1234567890 holes .";
    run("sh", &["-ec", script], folder);
    let tar =
        |arguments: &[&str]| vec![run("tar", &[arguments, &["-S", "-cf", "-", "holes"]].concat(), folder)];
    let of_bsdtar = vec![run("bsdtar", &["--format", "pax", "-cf", "-", "holes"], folder)];
    let of_version = |version| tar(&["--format=pax", version]);
    vec![
        Case::new("sparse-gnu", tar(&["--format=gnu"])).but("overlayfs", &[REFUSED], reason).but(
            "native",
            &[REFUSED],
            reason,
        ),
        filled("sparse-pax-0.0", of_version("--sparse-version=0.0")),
        filled("sparse-pax-0.1", of_version("--sparse-version=0.1")),
        filled("sparse-pax-1.0", of_version("--sparse-version=1.0")),
        filled("sparse-bsdtar", of_bsdtar),
    ]
}

/// Numbers that do not fit into a plain header, times before 1970 and of the day before yesterday, and a global header.
fn odd_numbers(folder: &Path) -> Case {
    let script = "touch early late fraction big; touch -d @-1000000.5 early; touch -d @1.999999999 fraction
        touch -d @1699999999 late; chown 3000000000:4000000000 big; touch -d @7 big
        mkdir d; touch -d @-5 d";
    run("sh", &["-ec", script], folder);
    let script = "import tarfile,sys; t=tarfile.open(fileobj=sys.stdout.buffer,mode='w|',format=tarfile.PAX_FORMAT, \
                  pax_headers={'comment':'of all','path':'not-me','mtime':'99'}); t.add('.'); t.close()";
    Case::new("odd-numbers", vec![run("python3", &["-c", script], folder)])
}

/// Two layers as umoci makes them: the second of what changed in a bundle.
fn umoci_image(folder: &Path) -> Case {
    let script = "umoci init --layout image; umoci new --image image:one
        umoci unpack --image image:one bundle
        cd bundle/rootfs; mkdir -p a/b etc; echo 1 > a/b/one; echo 2 > a/two; ln a/two a/three; ln -s two a/way
        echo conf > etc/conf; chmod 750 etc; find . -depth -exec touch -h -d @1234567890 {} +; cd ../..
        umoci repack --image image:two bundle; rm -rf bundle; umoci unpack --image image:two bundle
        cd bundle/rootfs; rm -r a/b; rm a/way; rm etc/conf; mkdir etc/conf; echo x > etc/conf/x; chmod 700 a
        find . -depth -exec touch -h -d @1234560000 {} +; cd ../..
        umoci repack --image image:three bundle";
    run("sh", &["-ec", &format!("{{ {script}\n}} > /dev/null")], folder);
    let read = |digest: &str| fs::read(folder.join("image/blobs/sha256").join(&digest[7..])).unwrap();
    let json = |data: &[u8]| -> serde_json::Value { serde_json::from_slice(data).unwrap() };
    let index = json(&fs::read(folder.join("image/index.json")).unwrap());
    let manifests = index["manifests"].as_array().unwrap();
    let name = "org.opencontainers.image.ref.name";
    let last = manifests.iter().find(|manifest| manifest["annotations"][name] == "three").unwrap();
    let manifest = json(&read(last["digest"].as_str().unwrap()));
    let layers = manifest["layers"].as_array().unwrap().iter().map(|layer| {
        let mut plain = Vec::new();
        let blob = read(layer["digest"].as_str().unwrap());
        std::io::Read::read_to_end(&mut corten_diff::decompressor(&blob[..]).unwrap(), &mut plain).unwrap();
        plain
    });
    let layers: Vec<_> = layers.collect();
    assert_eq!(layers.len(), 2);
    Case::new("umoci", layers)
}
