//! Version 2: one hierarchy.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use corten_api::io::containerd::cgroups::v2::{
    CpuStat, HugeTlbStat, IoEntry, IoStat, MemoryEvents, MemoryStat, Metrics, PidsStat, PsiData, PsiStats,
    RdmaEntry, RdmaStat,
};

use super::{Table, huge_page_sizes, number, parse_number, read};

/// The folder of the group that `/proc/PID/cgroup` names. `None` for the root.
pub(super) fn folder(memberships: &str, mount_point: &Path) -> Option<PathBuf> {
    let path = memberships.lines().find_map(|line| line.strip_prefix("0::"))?;
    let relative = path.trim_start_matches('/');
    (!relative.is_empty()).then(|| mount_point.join(relative))
}

/// Lets the root's controllers through to `group`: each folder above it is told, the group itself is not.
pub(super) fn enable_controllers(root: &Path, group: &Path) -> io::Result<()> {
    let controllers = fs::read_to_string(root.join("cgroup.controllers"))?;
    let order: Vec<String> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
    let relative = group.strip_prefix(root).map_err(io::Error::other)?;
    let mut folder = root.to_owned();
    for part in relative.components() {
        for controller in &order {
            // One at a time: a controller that cannot be had must not keep the others away.
            let _ = fs::OpenOptions::new()
                .write(true)
                .open(folder.join("cgroup.subtree_control"))
                .and_then(|mut file| file.write_all(controller.as_bytes()));
        }
        folder.push(part);
    }
    Ok(())
}

pub(super) fn metrics(folder: &Path) -> Metrics {
    Metrics {
        pids: Some(PidsStat { current: number(folder, "pids.current"), limit: number(folder, "pids.max") }),
        cpu: Some(processor(folder)),
        memory: Some(memory(folder)),
        memory_events: Some(memory_events(folder)),
        io: Some(IoStat {
            usage: block_devices(&read(folder, "io.stat").unwrap_or_default()),
            psi: pressure(folder, "io.pressure"),
        }),
        rdma: Some(RdmaStat {
            current: remote_memory(folder, "rdma.current"),
            limit: remote_memory(folder, "rdma.max"),
        }),
        hugetlb: huge_pages(folder),
        ..Metrics::default()
    }
}

fn processor(folder: &Path) -> CpuStat {
    let Some(table) = Table::read(folder, "cpu.stat") else { return CpuStat::default() };
    CpuStat {
        usage_usec: table.get("usage_usec"),
        user_usec: table.get("user_usec"),
        system_usec: table.get("system_usec"),
        nr_periods: table.get("nr_periods"),
        nr_throttled: table.get("nr_throttled"),
        throttled_usec: table.get("throttled_usec"),
        nr_bursts: table.get("nr_bursts"),
        burst_usec: table.get("burst_usec"),
        psi: pressure(folder, "cpu.pressure"),
    }
}

fn memory(folder: &Path) -> MemoryStat {
    let Some(table) = Table::read(folder, "memory.stat") else { return MemoryStat::default() };
    let get = |key| table.get(key);
    MemoryStat {
        anon: get("anon"),
        file: get("file"),
        kernel_stack: get("kernel_stack"),
        slab: get("slab"),
        sock: get("sock"),
        shmem: get("shmem"),
        file_mapped: get("file_mapped"),
        file_dirty: get("file_dirty"),
        file_writeback: get("file_writeback"),
        anon_thp: get("anon_thp"),
        inactive_anon: get("inactive_anon"),
        active_anon: get("active_anon"),
        inactive_file: get("inactive_file"),
        active_file: get("active_file"),
        unevictable: get("unevictable"),
        slab_reclaimable: get("slab_reclaimable"),
        slab_unreclaimable: get("slab_unreclaimable"),
        pgfault: get("pgfault"),
        pgmajfault: get("pgmajfault"),
        workingset_refault: get("workingset_refault"),
        workingset_activate: get("workingset_activate"),
        workingset_nodereclaim: get("workingset_nodereclaim"),
        pgrefill: get("pgrefill"),
        pgscan: get("pgscan"),
        pgsteal: get("pgsteal"),
        pgactivate: get("pgactivate"),
        pgdeactivate: get("pgdeactivate"),
        pglazyfree: get("pglazyfree"),
        pglazyfreed: get("pglazyfreed"),
        thp_fault_alloc: get("thp_fault_alloc"),
        thp_collapse_alloc: get("thp_collapse_alloc"),
        usage: number(folder, "memory.current"),
        usage_limit: number(folder, "memory.max"),
        max_usage: number(folder, "memory.peak"),
        swap_usage: number(folder, "memory.swap.current"),
        swap_limit: number(folder, "memory.swap.max"),
        swap_max_usage: number(folder, "memory.swap.peak"),
        psi: pressure(folder, "memory.pressure"),
    }
}

fn memory_events(folder: &Path) -> MemoryEvents {
    let Some(table) = Table::read(folder, "memory.events") else { return MemoryEvents::default() };
    MemoryEvents {
        low: table.get("low"),
        high: table.get("high"),
        max: table.get("max"),
        oom: table.get("oom"),
        oom_kill: table.get("oom_kill"),
        oom_group_kill: table.get("oom_group_kill"),
    }
}

/// Lines such as `8:0 rbytes=1 wbytes=2 rios=3 wios=4`.
fn block_devices(text: &str) -> Vec<IoEntry> {
    let entries = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let mut entry =
            IoEntry { major: major.parse().ok()?, minor: minor.parse().ok()?, ..IoEntry::default() };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let value = value.parse().unwrap_or_default();
            match key {
                "rbytes" => entry.rbytes = value,
                "wbytes" => entry.wbytes = value,
                "rios" => entry.rios = value,
                "wios" => entry.wios = value,
                _ => {}
            }
        }
        Some(entry)
    });
    entries.collect()
}

/// Lines such as `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`. `None` where the kernel does not account for it.
fn pressure(folder: &Path, name: &str) -> Option<PsiStats> {
    let text = read(folder, name)?;
    let mut stats = PsiStats::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let kind = words.next();
        let mut data = PsiData::default();
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "avg10" => data.avg10 = value.parse().unwrap_or_default(),
                "avg60" => data.avg60 = value.parse().unwrap_or_default(),
                "avg300" => data.avg300 = value.parse().unwrap_or_default(),
                "total" => data.total = value.parse().unwrap_or_default(),
                _ => {}
            }
        }
        match kind {
            Some("some") => stats.some = Some(data),
            Some("full") => stats.full = Some(data),
            _ => {}
        }
    }
    Some(stats)
}

fn huge_pages(folder: &Path) -> Vec<HugeTlbStat> {
    huge_page_sizes()
        .into_iter()
        .map(|size| HugeTlbStat {
            current: number(folder, &format!("hugetlb.{size}.current")),
            max: number(folder, &format!("hugetlb.{size}.max")),
            failcnt: Table::read(folder, &format!("hugetlb.{size}.events"))
                .map_or(0, |table| table.get("max")),
            pagesize: size,
        })
        .collect()
}

fn remote_memory(folder: &Path, name: &str) -> Vec<RdmaEntry> {
    remote_memory_lines(&read(folder, name).unwrap_or_default())
        .map(|(device, hca_handles, hca_objects)| RdmaEntry { device, hca_handles, hca_objects })
        .collect()
}

/// Device, handles and objects of lines such as `mlx5_0 hca_handle=2 hca_object=max`.
pub(super) fn remote_memory_lines(text: &str) -> impl Iterator<Item = (String, u32, u32)> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let device = words.next()?.to_owned();
        let (mut handles, mut objects) = (0, 0);
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let value = u32::try_from(parse_number(value).unwrap_or_default()).unwrap_or(u32::MAX);
            match key {
                "hca_handle" => handles = value,
                "hca_object" => objects = value,
                _ => {}
            }
        }
        Some((device, handles, objects))
    })
}
