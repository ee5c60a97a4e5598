//! Compare-and-set over HTTP: the ETag of a timer is its version, and `If-Match` asks for it.

use super::error::{ApiError, INVALID_QUERY};
use axum::http::{HeaderMap, HeaderValue, header};

/// The ETag of a version.
pub(super) fn etag(version: u64) -> HeaderValue {
    // Digits in quotes are a header value.
    HeaderValue::try_from(format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// The version that a change may be made to; `None` for any.
pub(super) fn expected_version(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let mut given = headers.get_all(header::IF_MATCH).iter();
    let value = match (given.next(), given.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.to_str().unwrap_or("?").trim(),
        (Some(_), Some(_)) => {
            return Err(ApiError::new(&INVALID_QUERY, "there are two If-Match headers: send one"));
        }
    };
    if value == "*" {
        return Ok(None);
    }
    let digits = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let version = digits.filter(|d| d.bytes().all(|b| b.is_ascii_digit())).and_then(|d| d.parse().ok());
    version.map(Some).ok_or_else(|| {
        let detail = format!("If-Match is {value}: send the ETag of the timer as it came, as in \"3\"");
        ApiError::new(&INVALID_QUERY, detail)
    })
}

/// For a path on which a version says nothing.
pub(super) fn refuse_if_match(headers: &HeaderMap, why: &str) -> Result<(), ApiError> {
    if headers.contains_key(header::IF_MATCH) {
        return Err(ApiError::new(&INVALID_QUERY, format!("If-Match is not for this path: {why}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_reads_back_and_all_else_is_refused() {
        fn check(value: &HeaderValue, want: Result<Option<u64>, &str>) {
            let headers = HeaderMap::from_iter([(header::IF_MATCH, value.clone())]);
            assert_eq!(expected_version(&headers).map_err(|e| e.code.code), want, "{value:?}");
        }
        assert_eq!(expected_version(&HeaderMap::new()).unwrap(), None);
        for version in [0, 3, u64::MAX] {
            check(&etag(version), Ok(Some(version)));
        }
        check(&HeaderValue::from_static("*"), Ok(None));
        for text in
            ["3", "W/\"3\"", "\"3\", \"4\"", "\"three\"", "\"\"", "\"+3\"", "\"99999999999999999999\""]
        {
            check(&HeaderValue::from_static(text), Err("invalid_query"));
        }
    }
}
