//! No text makes it panic, and what it says equals a naive evaluation.

use corten_filter::Filters;
use proptest::prelude::*;

use crate::Subject;

/// A selector as data, with a writer and an evaluator that share nothing with the parser.
#[derive(Clone, Debug)]
struct Wanted {
    name: String,
    operator: &'static str,
    value: String,
}

impl Wanted {
    fn written(&self, quote_everything: bool) -> String {
        let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let text = |text: &str| match plain(text) && !quote_everything {
            true => text.to_owned(),
            false => {
                let escaped: String =
                    text.chars().map(|character| format!("\\U{:08x}", character as u32)).collect();
                format!("\"{escaped}\"")
            }
        };
        match self.operator {
            "" => text(&self.name),
            operator => format!("{}{operator}{}", text(&self.name), text(&self.value)),
        }
    }

    fn holds(&self, subject: &Subject) -> bool {
        let value = subject.fields.get(&self.name).map(String::as_str);
        match self.operator {
            "" => value.is_some(),
            "==" => value == Some(&self.value),
            "!=" => value.unwrap_or("") != self.value,
            "~=" => value.unwrap_or("").contains(&self.value),
            other => unreachable!("{other}"),
        }
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[ab]{1,2}", "[a-c,./ \"\\\\]{0,3}", "\\PC{0,3}"]
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let operator = prop::sample::select(vec!["", "==", "!=", "~="]);
    (text(), operator, text()).prop_map(|(name, operator, value)| {
        // A value of ~= without special characters matches as a text would.
        let value = match operator {
            "~=" => value.chars().filter(|character| character.is_ascii_alphanumeric()).collect(),
            _ => value,
        };
        Wanted { name, operator, value }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic(text in "\\PC*|[a-z.,=!~\"/|\\\\x0-9 ]*|(.|\\n){0,40}", value in any::<String>()) {
        if let Ok(filters) = Filters::parse(&[text]) {
            let _either_way = filters.matches(&Subject::of(&[("a", &value)]));
        }
    }

    #[test]
    fn it_agrees_with_a_naive_evaluation(
        lists in prop::collection::vec(prop::collection::vec(wanted(), 1..4), 0..4),
        fields in prop::collection::btree_map(text(), text(), 0..4),
        quote_everything in any::<bool>(),
    ) {
        let texts: Vec<String> = lists
            .iter()
            .map(|list| list.iter().map(|wanted| wanted.written(quote_everything)).collect::<Vec<_>>().join(","))
            .collect();
        let subject = Subject { fields };
        let expected = lists.is_empty() || lists.iter().any(|list| list.iter().all(|wanted| wanted.holds(&subject)));
        let filters = Filters::parse(&texts).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(filters.matches(&subject), expected, "{:?}", texts);
    }
}
