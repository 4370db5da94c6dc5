use corten_types::{ErrorKind, Namespace};

#[test]
fn the_grammar_of_row_x05_is_kept() {
    let longest = "a".repeat(76);
    for good in ["a", "default", "k8s.io", "a-b_c.d", "0", longest.as_str()] {
        assert_eq!(good.parse::<Namespace>().unwrap().as_str(), good);
    }
    let too_long = "a".repeat(77);
    for bad in ["", "a..b", "-a", "a_", "a/b", "ä", "a b", ".", too_long.as_str()] {
        let error = bad.parse::<Namespace>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{bad:?}");
    }
}
