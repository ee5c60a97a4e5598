//! Client certificates: the rule that says what a certificate gives. TLS has verified it by then.

use super::{Caller, Principal};
use crate::config::access::{CertificateMatch, CertificateRule};
use std::net::SocketAddr;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The longest subject that is shown.
const SUBJECT_MAX_CHARS: usize = 256;

/// Who presents a certificate, by the first rule that is for it; why none is.
pub fn caller(rules: &[CertificateRule], der: &[u8], from: Option<SocketAddr>) -> Result<Caller, String> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|_| "the client certificate cannot be read".to_string())?;
    let subject: String = certificate.subject().to_string().chars().take(SUBJECT_MAX_CHARS).collect();
    let rule = rules.iter().find(|rule| is_for(&rule.matches, &certificate));
    let rule = rule.ok_or_else(|| format!("no rule is for the client certificate {subject:?}"))?;
    Ok(rule.grant.caller(Principal::Certificate(subject.into()), from))
}

fn is_for(matches: &CertificateMatch, certificate: &X509Certificate<'_>) -> bool {
    match matches {
        CertificateMatch::Subject(text) => certificate.subject().to_string() == *text,
        CertificateMatch::CommonName(text) => {
            // With several common names it is unclear which one was meant.
            let mut names = certificate.subject().iter_common_name();
            let (Some(name), None) = (names.next(), names.next()) else { return false };
            name.as_str().is_ok_and(|name| name == text)
        }
        CertificateMatch::Dns(text) => alternative(certificate, |name| match name {
            GeneralName::DNSName(dns) => dns.eq_ignore_ascii_case(text),
            _ => false,
        }),
        CertificateMatch::Uri(text) => alternative(certificate, |name| match name {
            GeneralName::URI(uri) => *uri == text,
            _ => false,
        }),
    }
}

fn alternative(certificate: &X509Certificate<'_>, is_it: impl Fn(&GeneralName<'_>) -> bool) -> bool {
    let names = certificate.subject_alternative_name();
    names.ok().flatten().is_some_and(|names| names.value.general_names.iter().any(is_it))
}
