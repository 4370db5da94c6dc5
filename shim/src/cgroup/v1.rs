//! Version 1: a hierarchy for each controller.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use corten_api::io::containerd::cgroups::v1::{
    BlkIoEntry, BlkIoStat, CpuStat, CpuUsage, HugetlbStat, MemoryEntry, MemoryOomControl, MemoryStat,
    Metrics, PidsStat, RdmaEntry, RdmaStat, Throttle,
};

use super::{Table, huge_page_sizes, number, read};

/// How many nanoseconds a tick of user and kernel time has: the kernel shows them in hundredths of a second.
const NANOSECONDS_A_TICK: u64 = 10_000_000;

/// The folder of each controller, from `/proc/PID/cgroup` and the mounts. Groups at the root are left out.
pub(super) fn folders(memberships: &str, mounts: &str) -> BTreeMap<String, PathBuf> {
    let mount_points: BTreeMap<String, PathBuf> = mount_points(mounts).into_iter().collect();
    let mut folders = BTreeMap::new();
    for line in memberships.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let relative = path.trim_start_matches('/');
        if relative.is_empty() {
            continue;
        }
        for controller in controllers.split(',') {
            if let Some(mount_point) = mount_points.get(controller) {
                folders.insert(controller.to_owned(), mount_point.join(relative));
            }
        }
    }
    folders
}

/// Each controller with the place where it is mounted.
pub(super) fn mount_points(mounts: &str) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for line in mounts.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let mut after = after.split(' ');
        if after.next() != Some("cgroup") {
            continue;
        }
        let (Some(mount_point), Some(options)) = (before.split(' ').nth(4), after.nth(1)) else { continue };
        for option in options.split(',').filter(|option| !matches!(*option, "rw" | "ro")) {
            found.push((option.to_owned(), PathBuf::from(mount_point)));
        }
    }
    found
}

pub(super) fn metrics(folders: &BTreeMap<String, PathBuf>) -> Metrics {
    let folder = |name: &str| folders.get(name).map(PathBuf::as_path).filter(|folder| folder.exists());
    Metrics {
        hugetlb: folder("hugetlb").map(huge_pages).unwrap_or_default(),
        pids: folder("pids").map(|folder| PidsStat {
            current: number(folder, "pids.current"),
            // No limit is 0 here.
            limit: Some(number(folder, "pids.max")).filter(|limit| *limit != u64::MAX).unwrap_or_default(),
        }),
        cpu: processor(folder("cpuacct"), folder("cpu")),
        memory: folder("memory").and_then(memory),
        blkio: folder("blkio").map(block_devices),
        rdma: folder("rdma").map(|folder| RdmaStat {
            current: remote_memory(folder, "rdma.current"),
            limit: remote_memory(folder, "rdma.max"),
        }),
        memory_oom_control: folder("memory").and_then(|folder| {
            let table = Table::read(folder, "memory.oom_control")?;
            Some(MemoryOomControl {
                oom_kill_disable: table.get("oom_kill_disable"),
                under_oom: table.get("under_oom"),
                oom_kill: table.get("oom_kill"),
            })
        }),
        ..Metrics::default()
    }
}

fn processor(accounting: Option<&Path>, limits: Option<&Path>) -> Option<CpuStat> {
    if accounting.is_none() && limits.is_none() {
        return None;
    }
    let usage = accounting.map(|folder| {
        let ticks = Table::read(folder, "cpuacct.stat");
        let time = |key| ticks.as_ref().map_or(0, |ticks| ticks.get(key).saturating_mul(NANOSECONDS_A_TICK));
        CpuUsage {
            total: number(folder, "cpuacct.usage"),
            kernel: time("system"),
            user: time("user"),
            per_cpu: read(folder, "cpuacct.usage_percpu")
                .unwrap_or_default()
                .split_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect(),
        }
    });
    let throttling = limits.and_then(|folder| Table::read(folder, "cpu.stat")).map(|table| Throttle {
        periods: table.get("nr_periods"),
        throttled_periods: table.get("nr_throttled"),
        throttled_time: table.get("throttled_time"),
    });
    Some(CpuStat { usage, throttling })
}

fn memory(folder: &Path) -> Option<MemoryStat> {
    let table = Table::read(folder, "memory.stat")?;
    let get = |key| table.get(key);
    let entry = |prefix: &str| {
        Some(MemoryEntry {
            limit: number(folder, &format!("{prefix}.limit_in_bytes")),
            usage: number(folder, &format!("{prefix}.usage_in_bytes")),
            max: number(folder, &format!("{prefix}.max_usage_in_bytes")),
            failcnt: number(folder, &format!("{prefix}.failcnt")),
        })
    };
    Some(MemoryStat {
        cache: get("cache"),
        rss: get("rss"),
        rss_huge: get("rss_huge"),
        mapped_file: get("mapped_file"),
        dirty: get("dirty"),
        writeback: get("writeback"),
        pg_pg_in: get("pgpgin"),
        pg_pg_out: get("pgpgout"),
        pg_fault: get("pgfault"),
        pg_maj_fault: get("pgmajfault"),
        inactive_anon: get("inactive_anon"),
        active_anon: get("active_anon"),
        inactive_file: get("inactive_file"),
        active_file: get("active_file"),
        unevictable: get("unevictable"),
        hierarchical_memory_limit: get("hierarchical_memory_limit"),
        hierarchical_swap_limit: get("hierarchical_memsw_limit"),
        total_cache: get("total_cache"),
        total_rss: get("total_rss"),
        total_rss_huge: get("total_rss_huge"),
        total_mapped_file: get("total_mapped_file"),
        total_dirty: get("total_dirty"),
        total_writeback: get("total_writeback"),
        total_pg_pg_in: get("total_pgpgin"),
        total_pg_pg_out: get("total_pgpgout"),
        total_pg_fault: get("total_pgfault"),
        total_pg_maj_fault: get("total_pgmajfault"),
        total_inactive_anon: get("total_inactive_anon"),
        total_active_anon: get("total_active_anon"),
        total_inactive_file: get("total_inactive_file"),
        total_active_file: get("total_active_file"),
        total_unevictable: get("total_unevictable"),
        usage: entry("memory"),
        swap: entry("memory.memsw"),
        kernel: entry("memory.kmem"),
        kernel_tcp: entry("memory.kmem.tcp"),
    })
}

fn block_devices(folder: &Path) -> BlkIoStat {
    // Without a scheduler that accounts, only the throttling layer counts.
    let scheduled = block_entries(folder, "blkio.io_serviced_recursive");
    if scheduled.is_empty() {
        return BlkIoStat {
            io_service_bytes_recursive: block_entries(folder, "blkio.throttle.io_service_bytes"),
            io_serviced_recursive: block_entries(folder, "blkio.throttle.io_serviced"),
            ..BlkIoStat::default()
        };
    }
    BlkIoStat {
        io_service_bytes_recursive: block_entries(folder, "blkio.io_service_bytes_recursive"),
        io_serviced_recursive: scheduled,
        io_queued_recursive: block_entries(folder, "blkio.io_queued_recursive"),
        io_service_time_recursive: block_entries(folder, "blkio.io_service_time_recursive"),
        io_wait_time_recursive: block_entries(folder, "blkio.io_wait_time_recursive"),
        io_merged_recursive: block_entries(folder, "blkio.io_merged_recursive"),
        io_time_recursive: block_entries(folder, "blkio.time_recursive"),
        sectors_recursive: block_entries(folder, "blkio.sectors_recursive"),
    }
}

/// Lines such as `8:0 Read 4096`, or `8:0 4096` in files that do not tell operations apart.
fn block_entries(folder: &Path, name: &str) -> Vec<BlkIoEntry> {
    let text = read(folder, name).unwrap_or_default();
    let entries = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let (first, second) = (words.next()?, words.next());
        let (operation, value) = second.map_or(("", first), |value| (first, value));
        let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
        Some(BlkIoEntry {
            op: operation.to_owned(),
            device: device_name(major, minor),
            major,
            minor,
            value: value.parse().ok()?,
        })
    });
    entries.collect()
}

/// The device's file, as the kernel names it; empty if there is none.
fn device_name(major: u64, minor: u64) -> String {
    let uevent =
        std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/uevent")).unwrap_or_default();
    uevent
        .lines()
        .find_map(|line| line.strip_prefix("DEVNAME="))
        .map(|name| format!("/dev/{name}"))
        .unwrap_or_default()
}

fn huge_pages(folder: &Path) -> Vec<HugetlbStat> {
    huge_page_sizes()
        .into_iter()
        .map(|size| HugetlbStat {
            usage: number(folder, &format!("hugetlb.{size}.usage_in_bytes")),
            max: number(folder, &format!("hugetlb.{size}.max_usage_in_bytes")),
            failcnt: number(folder, &format!("hugetlb.{size}.failcnt")),
            pagesize: size,
        })
        .collect()
}

/// Lines such as `mlx5_0 hca_handle=2 hca_object=max`.
fn remote_memory(folder: &Path, name: &str) -> Vec<RdmaEntry> {
    super::v2::remote_memory_lines(&read(folder, name).unwrap_or_default())
        .map(|(device, hca_handles, hca_objects)| RdmaEntry { device, hca_handles, hca_objects })
        .collect()
}
