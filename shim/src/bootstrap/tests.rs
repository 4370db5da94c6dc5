use corten_api::containerd::{
    runc::v1::Options,
    runtime::bootstrap::v1::{BootstrapParams, Extension},
};
use prost::Message;
use prost_types::Any;

use super::{Bootstrap, DEFAULT_SOCKET_FOLDER};
use crate::flags::Flags;

fn flags() -> Flags {
    Flags {
        id: "one".into(),
        namespace: "default".into(),
        address: "/run/old.sock".into(),
        publish_binary: "/bin/old".into(),
        ..Flags::default()
    }
}

fn options() -> (Options, Any) {
    let options = Options { shim_cgroup: "/shims".into(), ..Options::default() };
    let any = Any { type_url: "containerd.runc.v1.Options".into(), value: options.encode_to_vec() };
    (options, any)
}

#[test]
fn matching_parameters_are_taken_whole() {
    let (options, any) = options();
    let parameters = BootstrapParams {
        instance_id: "one".into(),
        namespace: "default".into(),
        log_level: -4,
        containerd_ttrpc_address: "/run/new.sock.ttrpc".into(),
        containerd_grpc_address: "/run/new.sock".into(),
        containerd_binary: "/bin/new".into(),
        extensions: vec![Extension { value: Some(any) }, Extension { value: None }],
        socket_dir: Some("/run/s".into()),
        ..BootstrapParams::default()
    };
    let found = Bootstrap::parse(&parameters.encode_to_vec(), &flags()).unwrap();
    let expected = Bootstrap {
        speaks_protobuf: true,
        socket_folder: "/run/s".into(),
        ttrpc_address: Some("/run/new.sock.ttrpc".into()),
        grpc_address: "/run/new.sock".into(),
        publish_binary: "/bin/new".into(),
        debug: true,
        options,
    };
    assert_eq!(found, expected);
}

#[test]
fn everything_else_is_an_old_daemon() {
    let foreign = BootstrapParams {
        instance_id: "two".into(),
        namespace: "default".into(),
        ..BootstrapParams::default()
    };
    for stdin in [foreign.encode_to_vec(), Vec::new(), b"\xff\xffnonsense".to_vec()] {
        let found = Bootstrap::parse(&stdin, &flags()).unwrap();
        assert!(!found.speaks_protobuf);
        assert_eq!(found.socket_folder, DEFAULT_SOCKET_FOLDER);
        assert_eq!(
            (found.grpc_address.as_str(), found.publish_binary.as_str()),
            ("/run/old.sock", "/bin/old")
        );
        assert_eq!(found.options, Options::default());
    }
}

#[test]
fn the_options_of_an_old_daemon_are_understood() {
    let (options, any) = options();
    let found = Bootstrap::parse(&any.encode_to_vec(), &flags()).unwrap();
    assert!(!found.speaks_protobuf);
    assert_eq!(found.options, options);
}
