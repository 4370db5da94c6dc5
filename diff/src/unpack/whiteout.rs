//! Deletions (OCI image-spec layer.md, rows B04 and B05).

use rustix::{
    fs::{self, FileType, Mode, XattrFlags},
    io::Errno,
};

use super::{Place, UnpackError, Unpacker, Whiteouts, name::join, sink::Placed};
use crate::archive::Entry;

pub(crate) const PREFIX: &[u8] = b".wh.";
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";

impl Unpacker<'_> {
    pub(crate) fn add_whiteout(&mut self, entry: &Entry, marker: &Place) -> Result<(), UnpackError> {
        if marker.base == OPAQUE {
            return self.make_opaque(marker);
        }
        let base = &marker.base[PREFIX.len()..];
        // Such a marker would remove the directory that it stands in, or the one above.
        if base.is_empty() || base == b"." || base == b".." {
            return Err(UnpackError::refused(&entry.path, "a whiteout must name a file beside it"));
        }
        let place = Place {
            parent: marker.parent.clone(),
            base: base.to_vec(),
            path: join(&marker.parent.path, base),
            literal: Vec::new(),
        };
        if self.whiteouts == Whiteouts::Remove {
            return self.clear(&place);
        }
        if let Some(deferred) = &mut self.deferred {
            deferred.replace_link(&place.path);
        }
        let failed = || UnpackError::system("make the whiteout", &place.path);
        let is_shown = match &self.deferred {
            // Whether it is needed is found out later.
            Some(_) => true,
            // In a directory that is not merged with one below, the kernel lists whiteouts instead of hiding them.
            None => self.lower_layers.may_show(&place.parent.path).map_err(failed())?,
        };
        if !is_shown {
            return self.clear(&place);
        }
        let make = || {
            let mode = Mode::empty();
            fs::mknodat(&*place.parent, place.base.as_slice(), FileType::CharacterDevice, mode, 0)
        };
        // Something that this layer made before is removed, as in a plain tree.
        match make() {
            Err(Errno::EXIST) => {
                self.clear(&place)?;
                make()
            }
            outcome => outcome,
        }
        .map_err(failed())?;
        if let Some(deferred) = &mut self.deferred {
            deferred.add_whiteout(&place.path)?;
        }
        self.told.put(&place.path, Placed::CharacterDevice { device: 0 });
        self.set_owner_of_name(entry, &place)
    }

    fn make_opaque(&mut self, marker: &Place) -> Result<(), UnpackError> {
        let path = &marker.parent.path;
        match self.whiteouts {
            Whiteouts::Remove => {
                self.layer.remove_others(&self.root, path)?;
                self.root.forget();
                Ok(())
            }
            Whiteouts::Overlay { .. } => {
                if let Some(deferred) = &mut self.deferred {
                    deferred.is_opaque_anyway(path);
                }
                let directory = marker.parent.open_self().map_err(UnpackError::system("open", path))?;
                self.mark_opaque(directory).map_err(UnpackError::system("make opaque", path))
            }
        }
    }

    /// Hides what the layers below have in a directory of an overlay.
    pub(crate) fn mark_opaque(&self, directory: impl std::os::fd::AsFd) -> Result<(), Errno> {
        match opaque_name(self.whiteouts) {
            Some(name) => fs::fsetxattr(directory, name, b"y", XattrFlags::empty()),
            None => Ok(()),
        }
    }
}

/// The attribute that makes a directory of an upper folder opaque.
pub(crate) fn opaque_name(whiteouts: Whiteouts) -> Option<&'static std::ffi::CStr> {
    match whiteouts {
        Whiteouts::Remove => None,
        Whiteouts::Overlay { user_xattrs: true } => Some(c"user.overlay.opaque"),
        Whiteouts::Overlay { user_xattrs: false } => Some(c"trusted.overlay.opaque"),
    }
}
