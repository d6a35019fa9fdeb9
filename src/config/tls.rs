//! `tls` of `[server]` and `[admin]`: certificates, and who vouches for clients.
//!
//! The files are read, so that what is wrong with them is found before anything is served.

use std::path::{Path, PathBuf};

use super::defaults;
use super::reader::{Section, Setting};
use super::values::{DAY, MILLISECOND, choice, duration, text};
use super::words::CLIENT_AUTH;
use crate::server::{CertificateParams, ClientAuthParams, TlsParams};

/// `None` if the table has none. Paths are relative to `folder`, which holds the file. Clients have to show a certificate by
/// default, where somebody vouches for them, if that is `required_by_default`.
pub(super) fn tls(parent: &mut Section<'_>, folder: &Path, required_by_default: bool) -> Option<TlsParams> {
    let mut section = parent.section("tls")?;
    let mut certificates: Vec<CertificateParams> = pair(&mut section, folder).into_iter().collect();
    for mut more in section.sections("certificates") {
        certificates.extend(pair(&mut more, folder));
        more.finish();
    }
    let client_auth = client_auth(&mut section, folder, required_by_default);
    let params = TlsParams {
        certificates,
        client_auth,
        handshake_timeout: section
            .read("handshake_timeout", defaults::HANDSHAKE_TIMEOUT, duration(MILLISECOND..=DAY))
            .value,
        reload_interval: section
            .read("reload_interval", defaults::RELOAD_INTERVAL, duration(MILLISECOND..=DAY))
            .value,
    };
    section.finish();
    Some(params)
}

fn pair(section: &mut Section<'_>, folder: &Path) -> Option<CertificateParams> {
    let cert = path(section, "cert", "name the file of the certificate, as in cert = \"tls.crt\"", folder);
    let key = path(section, "key", "name the file of its private key, as in key = \"tls.key\"", folder);
    let pair = CertificateParams { cert: cert?.value, key: key?.value };
    match pair.check() {
        Ok(()) => Some(pair),
        Err(wrong) => section.refuse("cert", wrong.to_string()),
    }
}

fn client_auth(
    section: &mut Section<'_>,
    folder: &Path,
    required_by_default: bool,
) -> Option<ClientAuthParams> {
    let required = section.read("client_auth", required_by_default, choice(&CLIENT_AUTH));
    let Some(item) = section.get("client_ca") else {
        if required.at().is_some() {
            section.refuse::<()>("client_auth", "nobody vouches for clients; name who does in `client_ca`");
        }
        return None;
    };
    let auth = ClientAuthParams { ca: folder.join(text(&item)?), required: required.value };
    match auth.check() {
        Ok(()) => Some(auth),
        Err(wrong) => item.refuse(wrong.to_string()),
    }
}

fn path(section: &mut Section<'_>, key: &'static str, mend: &str, folder: &Path) -> Option<Setting<PathBuf>> {
    section.require(key, mend, |item| text(item).map(|name| folder.join(name)))
}
