//! Every setting with its default: the schema that files are checked against.

use toml::{Table, Value};

/// Tables whose keys are chosen by the operator, not by the schema.
pub(super) const FREE_TABLES: [&str; 3] = ["proxy_plugins", "stream_processors", "timeouts"];

/// The default configuration in the current version.
pub(super) fn table() -> Table {
    DEFAULTS.parse().expect("the built-in defaults are valid TOML")
}

/// Whether `key` of the table at `path` is a setting that this daemon has.
pub(super) fn knows(path: &[&str], key: &str) -> bool {
    let mut here = Value::Table(table());
    for part in path {
        match here.get(part) {
            Some(value) => here = value.clone(),
            None => return false,
        }
    }
    here.get(key).is_some()
}

const DEFAULTS: &str = r#"
version = 4
root = '/var/lib/corten'
state = '/run/corten'
temp = ''
disabled_plugins = []
required_plugins = []
oom_score = 0
imports = ['/etc/corten/conf.d/*.toml']

[cgroup]
path = ''

[debug]
level = ''
format = ''

[proxy_plugins]

[stream_processors.'io.containerd.ocicrypt.decoder.v1.tar']
accepts = ['application/vnd.oci.image.layer.v1.tar+encrypted']
returns = 'application/vnd.oci.image.layer.v1.tar'
path = 'ctd-decoder'
args = ['--decryption-keys-path', '/etc/containerd/ocicrypt/keys']
env = ['OCICRYPT_KEYPROVIDER_CONFIG=/etc/containerd/ocicrypt/ocicrypt_keyprovider.conf']

[stream_processors.'io.containerd.ocicrypt.decoder.v1.tar.gzip']
accepts = ['application/vnd.oci.image.layer.v1.tar+gzip+encrypted']
returns = 'application/vnd.oci.image.layer.v1.tar+gzip'
path = 'ctd-decoder'
args = ['--decryption-keys-path', '/etc/containerd/ocicrypt/keys']
env = ['OCICRYPT_KEYPROVIDER_CONFIG=/etc/containerd/ocicrypt/ocicrypt_keyprovider.conf']

[timeouts]
'io.containerd.timeout.shim.cleanup' = '5s'
'io.containerd.timeout.shim.load' = '5s'
'io.containerd.timeout.shim.shutdown' = '3s'
'io.containerd.timeout.task.state' = '2s'

[plugins.'io.containerd.content.v1.content']

[plugins.'io.containerd.differ.v1.walking']

[plugins.'io.containerd.gc.v1.scheduler']
pause_threshold = 0.02
deletion_threshold = 0
mutation_threshold = 100
schedule_delay = '0s'
startup_delay = '100ms'

[plugins.'io.containerd.internal.v1.opt']
path = '/opt/containerd'

[plugins.'io.containerd.metadata.v1.bolt']
content_sharing_policy = 'shared'

[plugins.'io.containerd.runtime.v2.task']
platforms = []

[plugins.'io.containerd.server.v1.debug']
address = ''
uid = 0
gid = 0

[plugins.'io.containerd.server.v1.grpc']
address = '/run/containerd/containerd.sock'
uid = 0
gid = 0
max_recv_message_size = 16777216
max_send_message_size = 16777216

[plugins.'io.containerd.server.v1.metrics']
address = ''

[plugins.'io.containerd.server.v1.ttrpc']
address = ''
uid = 0
gid = 0

[plugins.'io.containerd.service.v1.diff-service']
default = ['walking']
sync_fs = false

[plugins.'io.containerd.shim.v1.manager']
env = []
socket_dir = ''

[plugins.'io.containerd.snapshotter.v1.native']
root_path = ''

[plugins.'io.containerd.snapshotter.v1.overlayfs']
root_path = ''
upperdir_label = false
sync_remove = false
slow_chown = false
mount_options = []
"#;
