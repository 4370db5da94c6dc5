//! What filters can look at in each record.

use std::borrow::Cow;

use corten_filter::Fields;
use corten_types::Labels;

use crate::{
    Container, Image, Lease, ResourceInfo, Sandbox,
    search::{Place, Searchable},
    tables::In,
};

fn map_entry<'a>(map: &'a Labels, key: &[&str]) -> Option<Cow<'a, str>> {
    map.get(&key.join(".")).map(|value| Cow::Borrowed(value.as_str()))
}

fn present(text: &str) -> Option<Cow<'_, str>> {
    (!text.is_empty()).then_some(Cow::Borrowed(text))
}

/// C02.
impl Fields for Container {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["id"] => present(&self.id),
            ["runtime", "name"] => present(&self.runtime.name),
            ["image"] => present(&self.image),
            ["labels", key @ ..] => map_entry(&self.labels, key),
            _ => None,
        }
    }
}

/// I01.
impl Fields for Image {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["name"] => present(&self.name),
            ["target", "digest"] => Some(Cow::Borrowed(self.target.digest.as_str())),
            ["target", "mediatype"] => present(&self.target.media_type),
            ["labels", key @ ..] => map_entry(&self.labels, key),
            ["annotations", key @ ..] => map_entry(&self.target.annotations, key),
            _ => None,
        }
    }
}

/// L03.
impl Fields for Lease {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["id"] => present(&self.id),
            ["labels", key @ ..] => map_entry(&self.labels, key),
            _ => None,
        }
    }
}

impl Fields for ResourceInfo {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["name"] => present(&self.name),
            ["labels", key @ ..] => map_entry(&self.labels, key),
            _ => None,
        }
    }
}

/// SB3.
impl Fields for Sandbox {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        match path {
            ["id"] => present(&self.id),
            ["labels", key @ ..] => map_entry(&self.labels, key),
            _ => None,
        }
    }
}

impl Searchable for In<Container> {
    /// Specifications are long.
    const SHORT: Option<(&'static str, &'static [usize])> = Some(("containers_in_short", &[0, 1, 2, 3, 12]));

    fn place<'p>(path: &'p [&'p str]) -> Option<Place<'p>> {
        match path {
            ["id"] => Some(Place::Text(1)),
            ["image"] => Some(Place::Text(2)),
            ["runtime", "name"] => Some(Place::Text(3)),
            ["labels", key @ ..] => Some(Place::Entry(12, key)),
            _ => None,
        }
    }
}

impl Searchable for In<Image> {
    fn place<'p>(path: &'p [&'p str]) -> Option<Place<'p>> {
        match path {
            ["name"] => Some(Place::Text(1)),
            ["target", "mediatype"] => Some(Place::Text(2)),
            ["target", "digest"] => Some(Place::Text(3)),
            ["annotations", key @ ..] => Some(Place::Entry(5, key)),
            ["labels", key @ ..] => Some(Place::Entry(6, key)),
            _ => None,
        }
    }
}
