//! Which mounts have to be made here, and how (M01).

use std::{collections::BTreeMap, sync::Arc};

use corten_types::{Error, Mount, Result};

use crate::{handler::Handler, record::ActivateOptions, transform::Transform};

/// How many mounts one activation may have: overlays have no more layers.
pub const MAX_MOUNTS: usize = 512;

/// One mount and what is to be done for it.
pub(crate) struct Step {
    pub(crate) mount: Mount,
    /// In their order.
    pub(crate) transforms: Vec<Transform>,
    /// The type without the transformations.
    pub(crate) kind: String,
    /// `None` for what the kernel mounts.
    pub(crate) handler: Option<Arc<dyn Handler>>,
}

/// What is to be done for a list of mounts.
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    /// How many of the steps are mounted here; the next one is at least transformed.
    pub(crate) handled: usize,
    pub(crate) temporary: bool,
}

/// What has to be done for `mounts`; `None` if the caller can mount them all by itself.
///
/// # Errors
/// `InvalidArgument`: too many mounts.
pub(crate) fn plan(
    mounts: Vec<Mount>,
    options: &ActivateOptions,
    handlers: &BTreeMap<String, Arc<dyn Handler>>,
) -> Result<Option<Plan>> {
    if mounts.len() > MAX_MOUNTS {
        let message = format!("{} mounts in one activation; there may be {MAX_MOUNTS}", mounts.len());
        return Err(Error::invalid_argument(message));
    }
    let allowed = |kind: &str| options.allowed_types.iter().any(|allowed| allowed == kind);
    let mut handled = None;
    let mut steps = Vec::with_capacity(mounts.len());
    for (index, mount) in mounts.into_iter().enumerate() {
        let (transforms, kind) = transforms_of(&mount.kind);
        if transforms.iter().any(|transform| !allowed(&format!("{}/*", transform.word())))
            && !allowed(&mount.kind)
        {
            handled = Some(index);
        }
        let handler = handlers.get(kind).cloned();
        if options.temporary || (handler.is_some() && !allowed(kind)) {
            handled = Some(index + 1);
        }
        let kind = kind.to_owned();
        steps.push(Step { mount, transforms, kind, handler });
    }
    Ok(handled.map(|handled| Plan { steps, handled, temporary: options.temporary }))
}

/// The transformations that a type begins with, and the rest of it.
fn transforms_of(kind: &str) -> (Vec<Transform>, &str) {
    let mut found = Vec::new();
    let mut rest = kind;
    while let Some((word, tail)) = rest.split_once('/') {
        let Some(transform) = Transform::of_word(word) else {
            tracing::warn!(kind, word, "a mount has a transformation that nobody knows");
            break;
        };
        found.push(transform);
        rest = tail;
    }
    (found, rest)
}

#[cfg(test)]
mod tests;
