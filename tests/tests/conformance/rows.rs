//! The content service message by message: rows T01 to T24, as far as a client can see them. The contract's suite asks through
//! a proxy, which hides them.

mod client;
mod reading;
mod writing;

use std::{future::Future, pin::Pin};

use corten_tests::{DaemonOptions, Kind};
use libtest_mimic::Trial;

use crate::subject::Server;
use client::Client;

type Run = fn(Client) -> Pin<Box<dyn Future<Output = ()>>>;

macro_rules! rows {
    ($($module:ident: $($name:ident),+;)+) => {
        const ALL: &[(&str, Run)] = &[
            $($((stringify!($name), |client| Box::pin($module::$name(client))),)+)+
        ];
    };
}

rows! {
    reading:
        t01_info_is_by_digest_and_namespace,
        t02_labels_are_changed_by_mask,
        t03_lists_come_a_hundred_at_a_time,
        t04_a_deleted_blob_is_gone_from_its_namespace,
        t05_reads_come_in_chunks_that_count_from_their_begin,
        t06_the_state_of_an_ingest_is_told_without_its_digest,
        t07_ingests_are_listed_by_ref,
        t21_a_commit_is_published,
        t24_parts_are_read_in_any_order;
    writing:
        t08_an_abort_while_the_ref_is_held_fails_the_commit,
        t09_the_first_message_names_a_ref_and_holds_it,
        t10_a_blob_that_exists_is_refused_and_leased,
        t11_another_namespace_needs_no_bytes,
        t12_the_state_is_asked_for_in_the_stream,
        t13_an_offset_is_the_end_or_begins_anew,
        t14_an_answer_tells_the_digest_so_far,
        t15_an_expectation_may_come_later,
        t16_a_commit_must_fit,
        t16_a_commit_of_what_exists_removes_the_ingest,
        t17_the_last_answer_comes_twice,
        t18_a_ref_is_gone_on_with,
        t18_another_total_begins_anew,
        t20_the_expected_digest_chooses_the_hash,
        t23_a_blob_is_a_file_that_nobody_writes;
}

/// Rows that came with containerd 2, and what the older one that can be installed does instead.
const NEWER: [(&str, &str); 2] = [
    ("t20_the_expected_digest_chooses_the_hash", "every hash is SHA-256: another expectation cannot be met"),
    ("t21_a_commit_is_published", "commits are silent"),
];

/// Every row as a named test; with containerd, every row that it knows.
pub(crate) fn trials(server: &Server) -> Vec<Trial> {
    let is_newer = |name: &str| NEWER.iter().any(|&(newer, _)| newer == name);
    let is_asked = |name: &str| DaemonOptions::default().kind == Kind::Corten || !is_newer(name);
    let trial = |&(name, run): &(&'static str, Run)| {
        let server = server.clone();
        Trial::test(name, move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(async { run(Client::enter(&server)).await });
            Ok(())
        })
        .with_kind("content rows")
    };
    ALL.iter().filter(|(name, _)| is_asked(name)).map(trial).collect()
}
