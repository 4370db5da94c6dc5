use corten_types::{Algorithm, Digest, ErrorKind};

#[test]
fn every_algorithm_round_trips() {
    for algorithm in Algorithm::ALL {
        let digest = Digest::from_hash(algorithm, &vec![0xab; algorithm.hex_len() / 2]);
        let again: Digest = digest.as_str().parse().unwrap();
        assert_eq!(again, digest);
        assert_eq!(again.algorithm(), algorithm);
        assert!(again.hex().bytes().all(|byte| byte == b'a' || byte == b'b'));
    }
}

#[test]
fn malformed_digests_are_invalid_arguments_that_name_the_text() {
    let upper = format!("sha256:{}", "AB".repeat(32));
    let long = format!("sha256:{}", "a".repeat(65));
    for text in ["", "sha256", "sha256:", "md5:00", "sha256:zz", upper.as_str(), long.as_str(), "../../etc"] {
        let error = text.parse::<Digest>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.message().contains(&format!("{text:?}")), "{error}");
    }
}
