//! What `[store.redis]` says of records: compressed, and sealed.
//!
//! The files of the keys are read, so that what is wrong with them is found before anything is served.

use std::path::Path;

use super::defaults;
use super::reader::Section;
use super::values::{flag, size, text};
use crate::store::codec::{CodecParams, EncryptionKeyParams};

/// Paths are relative to `folder`.
pub(super) fn records(section: &mut Section<'_>, folder: &Path) -> CodecParams {
    let compress_above =
        section.read("compress_above", defaults::COMPRESS_ABOVE_BYTES, size(0..=bytesize::PIB));
    let written = section.sections("encryption_keys");
    let keys = written.len();
    let encryption_keys: Vec<_> = written.into_iter().filter_map(|key| encryption_key(key, folder)).collect();
    let encrypt = section.read("encrypt", defaults::ENCRYPT, flag);
    if let Some(item) = section.get("encrypt").filter(|_| keys == 0) {
        if encrypt.value {
            item.refuse::<()>("there is no key to encrypt with; name one in `encryption_keys`");
        } else {
            item.warn("this has no effect without `encryption_keys`; remove it");
        }
    }
    let params =
        CodecParams { compress_above_bytes: compress_above.value, encryption_keys, encrypt: encrypt.value };
    if params.encryption_keys.len() == keys
        && let Err(wrong) = params.check()
    {
        section.refuse::<()>("encryption_keys", wrong.to_string());
    }
    params
}

fn encryption_key(mut section: Section<'_>, folder: &Path) -> Option<EncryptionKeyParams> {
    let id = section.require("id", "give it a name that it keeps, as in id = \"2026-11\"", text);
    let file = section.require("file", "name the file of the key, as in file = \"records.key\"", |item| {
        text(item).map(|name| folder.join(name))
    });
    let key = id.zip(file).map(|(id, file)| EncryptionKeyParams { id: id.value, file: file.value });
    let checked = key.and_then(|key| match key.check() {
        Ok(()) => Some(key),
        Err(wrong) => section.refuse(wrong.setting(), wrong.to_string()),
    });
    section.finish();
    checked
}
