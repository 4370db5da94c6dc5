//! The list of cases.

use super::world::World;
use super::{errors, files, labels, lifecycle};

pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) run: fn(&World),
}

macro_rules! cases {
    ($($module:ident: $($name:ident),+ $(,)?;)+) => {
        /// Every case, in the order of reading.
        pub(super) const ALL: &[Case] = &[
            $($(Case { name: stringify!($name), run: $module::$name },)+)+
        ];
    };
}

cases! {
    lifecycle:
        a_snapshot_is_prepared_written_committed_and_stood_on,
        an_active_snapshot_is_told_by_its_key,
        a_commit_keeps_the_parent_and_frees_the_key,
        a_removed_key_can_be_used_again,
        a_snapshot_that_others_stand_on_stays,
        several_are_removed_each_with_its_own_result,
        mounts_are_the_same_each_time,
        a_view_refuses_writes,
        a_view_is_no_parent_and_cannot_be_committed,
        the_root_of_a_snapshot_has_mode_0755,
        a_parent_given_at_commit_lies_below,
        the_same_parent_may_be_given_at_commit,
        one_of_many_that_want_the_same_key_gets_it,
        many_keys_are_prepared_and_committed_at_once,
        removed_snapshots_are_cleaned_up;
    errors:
        what_is_missing_is_not_found,
        a_taken_key_is_refused,
        a_missing_parent_is_refused,
        a_parent_that_is_not_committed_is_refused,
        a_taken_name_is_refused_and_the_active_one_stays,
        a_committed_snapshot_is_not_committed_again,
        a_committed_snapshot_has_no_mounts,
        another_parent_at_commit_is_refused,
        a_missing_parent_at_commit_is_refused;
    labels:
        labels_are_told_and_replaced_by_a_commit,
        a_size_limit_is_a_hint_and_no_error,
        labels_are_replaced_without_a_mask,
        a_mask_changes_and_removes_single_labels,
        another_path_in_a_mask_is_refused,
        times_tell_of_making_and_changing,
        lists_are_in_the_order_of_names_and_come_in_pages,
        filters_choose_by_kind_name_parent_and_labels,
        lists_and_stat_tell_the_same;
    files:
        files_are_changed_in_the_next_layer,
        deleted_files_stay_deleted,
        a_folder_that_was_made_again_is_empty,
        owners_are_changed_in_the_next_layer,
        modes_and_owners_of_folders_survive_commits,
        files_are_renamed_in_the_next_layer,
        a_folder_of_a_lower_layer_is_renamed,
        files_are_moved_between_folders_of_lower_layers,
        links_devices_and_attributes_reach_the_child,
        a_hundred_and_twenty_eight_layers_are_mounted,
        usage_counts_what_was_written_and_hard_links_once,
        usage_leaves_out_the_parents,
        a_view_takes_nothing;
}
