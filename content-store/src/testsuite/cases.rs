//! The list of cases.

use std::{future::Future, pin::Pin};

use super::{announcements, blobs, digests, ingests, labels};
use crate::ContentStore;

type Run = for<'a> fn(&'a dyn ContentStore) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) run: Run,
}

macro_rules! cases {
    ($($module:ident: $($name:ident),+;)+) => {
        pub(super) const ALL: &[Case] = &[
            $($(Case { name: stringify!($name), run: |store| Box::pin($module::$name(store)) },)+)+
        ];
    };
}

cases! {
    blobs:
        a_committed_blob_is_read_back,
        an_empty_blob_can_be_committed_and_read,
        reads_end_at_the_end_of_the_blob,
        a_large_blob_arrives_whole,
        what_does_not_exist_is_not_found,
        a_deleted_blob_is_gone_and_can_come_again,
        blobs_deleted_together_are_answered_for_in_their_order,
        an_open_blob_stays_readable_after_its_deletion,
        blobs_are_listed_in_the_order_of_digests,
        a_page_begins_after_the_last_of_the_page_before,
        filters_look_at_the_digest,
        many_tasks_read_one_blob;
    ingests:
        bytes_are_invisible_until_the_commit,
        pieces_are_appended_in_their_order,
        a_second_writer_of_a_key_is_told_to_come_back,
        a_key_is_free_after_its_writer_is_dropped,
        a_dropped_ingest_goes_on_where_it_was,
        another_total_begins_anew,
        the_same_total_goes_on,
        truncating_throws_every_byte_away,
        an_ingest_needs_a_key,
        keys_may_hold_anything,
        the_state_of_an_ingest_is_known,
        ingests_are_listed_in_the_order_of_keys,
        filters_look_at_the_key,
        an_absent_ingest_is_not_found,
        an_aborted_ingest_is_gone,
        an_ingest_can_be_aborted_while_it_is_held,
        an_expected_blob_that_exists_is_refused_at_once,
        a_commit_of_an_existing_blob_removes_the_ingest,
        of_two_writers_of_the_same_bytes_one_commits,
        a_wrong_digest_keeps_the_ingest,
        a_wrong_size_keeps_the_ingest,
        a_finished_ingest_takes_nothing,
        a_size_that_no_disk_holds_is_refused;
    announcements:
        announced_bytes_are_written_once,
        only_what_is_written_counts,
        announced_bytes_that_are_never_written_are_nothing,
        announced_bytes_may_be_written_in_part_or_with_more,
        the_same_bytes_may_be_announced_and_written_again,
        a_truncation_forgets_what_was_announced,
        announcements_for_a_finished_or_dropped_ingest_are_nothing,
        a_refused_commit_leaves_what_was_announced_to_be_written;
    digests:
        the_digest_so_far_is_that_of_the_bytes_so_far,
        a_resumed_ingest_hashes_what_was_written_before,
        without_an_expected_digest_the_blob_gets_its_sha256,
        the_algorithm_of_the_expected_digest_is_used,
        another_algorithm_may_be_asked_for_at_the_commit;
    labels:
        labels_of_a_commit_are_kept,
        labels_are_replaced_without_a_mask,
        a_mask_changes_one_label,
        another_path_in_a_mask_is_refused,
        labels_of_an_absent_blob_are_not_found,
        too_long_labels_are_refused,
        filters_look_at_labels;
}
