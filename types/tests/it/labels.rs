use corten_types::{ErrorKind, FieldPath, Labels, UpdateMask, validate_labels};

#[test]
fn a_label_of_4096_bytes_fits_and_one_more_does_not() {
    let fits = Labels::from([("k".into(), "v".repeat(4095))]);
    validate_labels(&fits).unwrap();
    let too_long = Labels::from([("ké".repeat(100), "v".repeat(4096))]);
    let error = validate_labels(&too_long).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.message().len() < 200, "the key is cut: {error}");
}

#[test]
fn a_mask_keeps_dots_in_keys() {
    let mask = UpdateMask::of(["labels.containerd.io/gc.root", "spec"]);
    let paths: Vec<_> = mask.paths().collect();
    assert_eq!(paths[0], FieldPath { field: "labels", key: Some("containerd.io/gc.root") });
    assert_eq!(paths[1], FieldPath { field: "spec", key: None });
    assert!(!mask.replaces_all());
    assert!(UpdateMask::replace_all().replaces_all());
}
