use std::{fs, path::Path, time::Duration};

use corten_daemon::config::{self, LoadError, Settings, Tunable};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

fn settings(path: &Path) -> (Settings, Vec<String>) {
    let loaded = config::load(Some(path)).unwrap();
    (Settings::read(&loaded.table, &Tunable::default()).unwrap(), loaded.warnings)
}

#[test]
fn the_defaults_are_a_valid_configuration_without_warnings() {
    let folder = Folder::new();
    let path = folder.file("config.toml", &config::render(&config::default_table()));
    let (settings, warnings) = settings(&path);
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(settings.root, Path::new("/var/lib/corten"));
    assert_eq!(settings.grpc.address, Path::new("/run/containerd/containerd.sock"));
    assert_eq!(settings.ttrpc.address, Path::new("/run/containerd/containerd.sock.ttrpc"));
    assert_eq!(settings.timeouts.shim_load, Duration::from_secs(5));
}

#[test]
fn the_file_that_dockerd_writes_is_understood() {
    let folder = Folder::new();
    let path = folder.file(
        "containerd.toml",
        r#"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
oom_score = 0
root = "/var/lib/docker/containerd/daemon"
state = "/var/run/docker/containerd/daemon"
version = 2

[debug]
  address = "/var/run/docker/containerd/containerd-debug.sock"
  format = ""
  gid = 0
  level = "debug"
  uid = 0

[grpc]
  address = "/var/run/docker/containerd/containerd.sock"
  gid = 5
  max_recv_message_size = 0
  max_send_message_size = 0
  uid = 0

[ttrpc]
  address = ""
  gid = 0
  uid = 0

[metrics]
  address = ""

[timeouts]

[proxy_plugins]
"#,
    );
    let (settings, warnings) = settings(&path);
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(settings.root, Path::new("/var/lib/docker/containerd/daemon"));
    assert_eq!(settings.grpc.gid, 5);
    assert_eq!(settings.ttrpc.gid, 0, "a ttrpc section that is there says whom its socket belongs to");
    assert_eq!(settings.max_receive_bytes, 16 << 20, "0 is the default");
    assert_eq!(settings.debug.level, "debug");
}

#[test]
fn the_group_of_an_old_grpc_section_also_owns_the_ttrpc_socket() {
    let folder = Folder::new();
    let path = folder.file("c.toml", "version = 2\n[grpc]\naddress = '/tmp/a.sock'\ngid = 5\n");
    let (settings, warnings) = settings(&path);
    assert_eq!((settings.grpc.gid, settings.ttrpc.gid), (5, 5));
    assert_eq!(settings.ttrpc.address, Path::new("/tmp/a.sock.ttrpc"));
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn an_old_section_in_a_current_file_is_named_in_a_warning() {
    let folder = Folder::new();
    let path = folder.file("c.toml", "version = 4\n[grpc]\naddress = '/tmp/a.sock'\n");
    let (settings, warnings) = settings(&path);
    assert_eq!(settings.grpc.address, Path::new("/run/containerd/containerd.sock"));
    assert!(warnings.iter().any(|warning| warning.contains("[grpc] has no effect")), "{warnings:?}");
}

#[test]
fn unknown_keys_are_warnings_and_unknown_plugins_say_nothing() {
    let folder = Folder::new();
    let path = folder.file(
        "c.toml",
        "version = 3\nbogus = 1\n[plugins.'io.containerd.gc.v1.scheduler']\nnew_knob = 1\n\
         [plugins.'io.containerd.nri.v1.nri']\ndisable = true\n[debug]\ncolour = 'red'\n",
    );
    let (_, warnings) = settings(&path);
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    for word in ["bogus", "new_knob", "debug.colour"] {
        assert!(warnings.iter().any(|warning| warning.contains(word)), "{word}: {warnings:?}");
    }
}

#[test]
fn short_names_of_version_1_become_full_ones() {
    let folder = Folder::new();
    let path = folder
        .file("c.toml", "disabled_plugins = ['cri']\n[plugins.bolt]\ncontent_sharing_policy = 'isolated'\n");
    let (settings, _) = settings(&path);
    assert_eq!(settings.disabled_plugins, ["io.containerd.grpc.v1.cri"]);
    assert!(!settings.shared_content);
}

#[test]
fn a_syntax_error_names_file_line_and_reason() {
    let folder = Folder::new();
    let path = folder.file("broken.toml", "version = 2\n\n[debug]\nlevel = = 3\n");
    match config::load(Some(&path)).unwrap_err() {
        LoadError::Syntax { path: named, line, reason } => {
            assert_eq!(named, path);
            assert_eq!(line, 4);
            assert!(!reason.is_empty());
        }
        other => panic!("{other}"),
    }
}

#[test]
fn values_that_make_no_sense_are_refused_by_name() {
    let folder = Folder::new();
    for (text, name) in [
        ("version = 4\nroot = '/a'\nstate = '/a'\n", "state"),
        ("version = 4\nroot = 5\n", "root"),
        ("version = 4\ndisabled_plugins = ['cri']\n", "disabled_plugins"),
        ("version = 4\n[debug]\nlevel = 'loud'\n", "debug.level"),
        ("version = 4\n[timeouts]\n'io.containerd.timeout.shim.load' = 'soon'\n", "shim.load"),
        ("version = 4\n[plugins.'io.containerd.metadata.v1.bolt']\ncontent_sharing_policy = 'x'\n", "policy"),
    ] {
        let path = folder.file("c.toml", text);
        let loaded = config::load(Some(&path)).unwrap();
        let error = Settings::read(&loaded.table, &Tunable::default()).unwrap_err();
        assert!(error.to_string().contains(name), "{text}: {error}");
    }
}

#[test]
fn versions_from_the_future_and_missing_files_are_refused() {
    let folder = Folder::new();
    let path = folder.file("c.toml", "version = 5\n");
    assert!(matches!(config::load(Some(&path)), Err(LoadError::Version { .. })));
    let gone = folder.0.path().join("none.toml");
    assert!(matches!(config::load(Some(&gone)), Err(LoadError::Read { .. })));
}

#[test]
fn imports_are_relative_sorted_merged_and_may_form_a_circle() {
    let folder = Folder::new();
    folder.file("conf.d/20.toml", "version = 4\ndisabled_plugins = ['a.b', 'c.d']\noom_score = 7\n");
    folder.file(
        "conf.d/10.toml",
        "version = 2\noom_score = 3\nimports = ['../config.toml']\n[grpc]\naddress = '/tmp/x'\n",
    );
    let path =
        folder.file("config.toml", "version = 4\nimports = ['conf.d/*.toml']\ndisabled_plugins = ['a.b']\n");
    let (settings, _) = settings(&path);
    assert_eq!(settings.oom_score, 7);
    assert_eq!(settings.disabled_plugins, ["a.b", "c.d"]);
    assert_eq!(settings.grpc.address, Path::new("/tmp/x"));
}

#[test]
fn the_command_line_wins_and_moves_the_ttrpc_socket() {
    let folder = Folder::new();
    let path = folder.file("c.toml", "version = 4\nroot = '/a'\n");
    let loaded = config::load(Some(&path)).unwrap();
    let words = Tunable {
        root: Some("/r".into()),
        state: Some("/s".into()),
        address: Some("/x.sock".into()),
        log_level: Some("trace".into()),
    };
    let settings = Settings::read(&loaded.table, &words).unwrap();
    assert_eq!(settings.root, Path::new("/r"));
    assert_eq!(settings.ttrpc.address, Path::new("/x.sock.ttrpc"));
    assert_eq!(settings.debug.level, "trace");
}

/// Rows A05 and DM40: those for encrypted layers are there from the start, others are added beside them.
#[test]
fn stream_processors_are_added_to_the_default_ones() {
    let folder = Folder::new();
    let path = folder.file(
        "c.toml",
        "version = 2\n[stream_processors.unlock]\naccepts = ['application/locked']\n\
         returns = 'application/vnd.oci.image.layer.v1.tar'\npath = 'unlocker'\nargs = ['--now']\n",
    );
    let (settings, warnings) = settings(&path);
    assert!(warnings.is_empty(), "{warnings:?}");
    let shown: Vec<_> =
        settings.stream_processors.iter().map(|known| (known.id.as_str(), known.path.as_str())).collect();
    let decoder = "io.containerd.ocicrypt.decoder.v1.tar";
    let gzip = format!("{decoder}.gzip");
    assert_eq!(shown, [(decoder, "ctd-decoder"), (&gzip, "ctd-decoder"), ("unlock", "unlocker")]);
    let decoder = &settings.stream_processors[1];
    assert_eq!(decoder.accepts, ["application/vnd.oci.image.layer.v1.tar+gzip+encrypted"]);
    assert_eq!(decoder.returns, "application/vnd.oci.image.layer.v1.tar+gzip");
    assert_eq!(decoder.args, ["--decryption-keys-path", "/etc/containerd/ocicrypt/keys"]);
    let unlock = &settings.stream_processors[2];
    assert_eq!((unlock.args.as_slice(), unlock.env.as_slice()), (&["--now".to_owned()][..], &[][..]));
}

#[test]
fn a_stream_processor_without_a_program_is_refused_by_name() {
    let folder = Folder::new();
    let path = folder.file("c.toml", "version = 4\n[stream_processors.x]\naccepts = []\nreturns = 'y'\n");
    let loaded = config::load(Some(&path)).unwrap();
    let error = Settings::read(&loaded.table, &Tunable::default()).unwrap_err();
    assert!(error.to_string().contains("stream_processors.x.path"), "{error}");
}
