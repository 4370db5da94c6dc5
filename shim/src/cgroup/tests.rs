#![expect(clippy::disallowed_methods, reason = "test files need not survive a power cut")]

use std::{fs, path::Path};

use super::{Cgroup, huge_page_name, key_value, parse_number, v1, v2};

const MOUNTS: &str = "\
30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

#[test]
fn folders_of_version_1_follow_the_mounts() {
    let folders =
        v1::folders("4:memory:/a/b\n3:cpu,cpuacct:/a/b\n2:pids:/a/b\n1:name=systemd:/\n0::/\n", MOUNTS);
    assert_eq!(folders["memory"], Path::new("/sys/fs/cgroup/memory/a/b"));
    assert_eq!(folders["cpu"], Path::new("/sys/fs/cgroup/cpu,cpuacct/a/b"));
    assert_eq!(folders.len(), 3, "not mounted and not below the root: {folders:?}");
    assert!(v1::folders("4:memory:/\n", MOUNTS).is_empty());
}

#[test]
fn the_folder_of_version_2_is_never_the_root() {
    let root = Path::new("/sys/fs/cgroup");
    assert_eq!(
        v2::folder("1:name=systemd:/x\n0::/a\n", root).as_deref(),
        Some(Path::new("/sys/fs/cgroup/a"))
    );
    assert_eq!(v2::folder("0::/\n", root), None);
}

#[test]
fn numbers_are_read_as_the_kernel_writes_them() {
    assert_eq!(parse_number("max\n"), Some(u64::MAX));
    assert_eq!(parse_number("12\n"), Some(12));
    assert_eq!(parse_number("-1"), Some(0));
    assert_eq!(parse_number("x"), None);
    assert_eq!(key_value("oom 3\noom_kill 2\n", "oom_kill"), Some(2));
    assert_eq!((huge_page_name(2048), huge_page_name(1 << 20)), ("2MB".to_owned(), "1GB".to_owned()));
}

#[test]
fn figures_of_version_1_come_from_their_files() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("pids.current", "3\n");
    write("pids.max", "max\n");
    write("cpuacct.usage", "123456\n");
    write("cpuacct.usage_percpu", "1 2 \n");
    write("cpuacct.stat", "user 5\nsystem 7\n");
    write("cpu.stat", "nr_periods 1\nnr_throttled 2\nthrottled_time 3\n");
    write("memory.stat", "cache 10\nrss 20\npgpgin 4\ntotal_rss 21\n");
    write("memory.usage_in_bytes", "4096\n");
    write("memory.limit_in_bytes", "8192\n");
    write("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
    write("blkio.throttle.io_service_bytes", "8:0 Read 4096\n8:0 Total 4096\nTotal 4096\n");
    let folders = ["pids", "cpuacct", "cpu", "memory", "blkio"]
        .map(|name| (name.to_owned(), folder.path().to_owned()))
        .into_iter()
        .collect();
    let metrics = v1::metrics(&folders);
    let pids = metrics.pids.unwrap();
    assert_eq!((pids.current, pids.limit), (3, 0));
    let cpu = metrics.cpu.unwrap();
    let usage = cpu.usage.unwrap();
    assert_eq!((usage.total, usage.user, usage.kernel), (123_456, 50_000_000, 70_000_000));
    assert_eq!(usage.per_cpu, [1, 2]);
    assert_eq!(cpu.throttling.unwrap().throttled_time, 3);
    let memory = metrics.memory.unwrap();
    assert_eq!((memory.cache, memory.rss, memory.pg_pg_in, memory.total_rss), (10, 20, 4, 21));
    assert_eq!(memory.usage.unwrap().usage, 4096);
    assert_eq!(metrics.memory_oom_control.unwrap().oom_kill, 2);
    let bytes = metrics.blkio.unwrap().io_service_bytes_recursive;
    assert_eq!(bytes.len(), 2);
    assert_eq!((bytes[0].op.as_str(), bytes[0].major, bytes[0].value), ("Read", 8, 4096));
}

#[test]
fn figures_of_version_2_come_from_their_files() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("pids.current", "3\n");
    write("pids.max", "max\n");
    write("cpu.stat", "usage_usec 9\nuser_usec 4\nsystem_usec 5\nnr_periods 1\n");
    write(
        "cpu.pressure",
        "some avg10=1.50 avg60=0.00 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n",
    );
    write("memory.stat", "anon 1\nfile 2\npgfault 3\n");
    write("memory.current", "100\n");
    write("memory.max", "max\n");
    write("memory.events", "low 0\nhigh 0\nmax 4\noom 2\noom_kill 1\n");
    write("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0\n");
    write("rdma.current", "mlx5_0 hca_handle=2 hca_object=max\n");
    let metrics = v2::metrics(folder.path());
    assert_eq!(metrics.pids.unwrap().limit, u64::MAX);
    let cpu = metrics.cpu.unwrap();
    assert_eq!((cpu.usage_usec, cpu.user_usec, cpu.system_usec), (9, 4, 5));
    let some = cpu.psi.unwrap().some.unwrap();
    assert_eq!((some.avg10, some.total), (1.5, 77));
    let memory = metrics.memory.unwrap();
    assert_eq!((memory.anon, memory.usage, memory.usage_limit, memory.pgfault), (1, 100, u64::MAX, 3));
    let events = metrics.memory_events.unwrap();
    assert_eq!((events.oom, events.oom_kill), (2, 1));
    let io = metrics.io.unwrap().usage;
    assert_eq!((io[0].rbytes, io[0].wios), (1, 4));
    assert_eq!(metrics.rdma.unwrap().current[0].hca_objects, u32::MAX);
}

#[test]
fn controllers_are_enabled_above_a_group_and_not_in_it() {
    let root = tempfile::tempdir().unwrap();
    let group = root.path().join("a/b");
    fs::create_dir_all(&group).unwrap();
    fs::write(root.path().join("cgroup.controllers"), "cpu memory\n").unwrap();
    for folder in [root.path(), &root.path().join("a"), &group] {
        fs::write(folder.join("cgroup.subtree_control"), "").unwrap();
    }
    v2::enable_controllers(root.path(), &group).unwrap();
    let control = |folder: &Path| fs::read_to_string(folder.join("cgroup.subtree_control")).unwrap();
    // A plain file keeps the last order only, at its beginning.
    assert!(control(root.path()).contains("memory"));
    assert!(control(&root.path().join("a")).contains("memory"));
    assert_eq!(control(&group), "");
}

#[test]
fn a_group_that_is_gone_is_not_found_and_empty() {
    let gone = Cgroup::V2("/sys/fs/cgroup/no-such-group".into());
    assert_eq!(gone.metrics().unwrap_err().kind(), corten_types::ErrorKind::NotFound);
    assert!(gone.pids().is_empty());
}

#[test]
fn processes_of_nested_groups_are_listed_once() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("inner")).unwrap();
    fs::write(root.path().join("cgroup.procs"), "7\n3\n").unwrap();
    fs::write(root.path().join("inner/cgroup.procs"), "9\n3\n").unwrap();
    assert_eq!(Cgroup::V2(root.path().to_owned()).pids(), [3, 7, 9]);
}
