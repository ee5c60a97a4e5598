//! Splits a line of comma-separated values: as much of RFC 4180 as a logger writes.

use std::borrow::Cow;

/// The fields of a line, without surrounding spaces and quotes; `None` when a quote is not closed on this line.
pub(crate) fn split(line: &str) -> Option<Vec<Cow<'_, str>>> {
    if !line.contains('"') {
        return Some(line.split(',').map(|field| Cow::Borrowed(field.trim())).collect());
    }
    let (mut fields, mut field, mut is_quoted) = (Vec::new(), String::new(), false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if is_quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(std::mem::take(&mut field)),
            _ => field.push(c),
        }
    }
    fields.push(field);
    (!is_quoted).then(|| fields.into_iter().map(|f| Cow::Owned(f.trim().to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_spaces() {
        let check = |line: &str, want: Option<&[&str]>| {
            let want = want.map(|fields| fields.iter().map(|f| Cow::Borrowed(*f)).collect::<Vec<_>>());
            assert_eq!(split(line), want, "{line}");
        };
        check("", Some(&[""]));
        check("a, b ,,", Some(&["a", "b", "", ""]));
        check("\"Mon, 3\",2", Some(&["Mon, 3", "2"]));
        check("\"say \"\"hi\"\"\",2", Some(&["say \"hi\"", "2"]));
        check("\"open,2", None);
    }
}
