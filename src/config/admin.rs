//! `[admin]`: where the admin listener is, and who is let in.

use std::net::SocketAddr;
use std::path::Path;

use super::names::socket_address;
use super::reader::{Item, Section, Setting};
use super::tls::tls;
use super::values::{text, text_as};
use crate::server::{AdminParams, TokenParams};

/// Paths of files are relative to `folder`. The place is that of `listen`.
pub(super) fn admin(mut section: Section<'_>, folder: &Path) -> Option<Setting<AdminParams>> {
    let mend = "write listen = \"127.0.0.1:9090\", or remove the table to have no admin listener";
    let listen: Option<Setting<SocketAddr>> = section.require("listen", mend, text_as(socket_address));
    let file = section.read("token_file", Setting::from(None), |item| {
        checked(item, TokenParams::File(folder.join(text(item)?))).map(Some)
    });
    let environment = section.read("token_env", Setting::from(None), |item| {
        checked(item, TokenParams::Environment(text(item)?)).map(Some)
    });
    if section.get("token_file").is_some() {
        section.refuse::<()>("token_env", "there is a file for it already; write the one or the other");
    }
    // Probes and scrapers have no certificate: who has to show one is decided for each request.
    let tls = tls(&mut section, folder, false);
    section.finish();
    let token = file.value.or(environment.value);
    Some(listen?.map(|listen| AdminParams { listen, token, tls }))
}

fn checked(item: &Item<'_>, token: TokenParams) -> Option<TokenParams> {
    match token.check() {
        Ok(()) => Some(token),
        Err(wrong) => item.refuse(wrong.to_string()),
    }
}
