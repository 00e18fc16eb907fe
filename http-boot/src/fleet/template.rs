//! Placeholders in what `fleet.toml` says: `{serial}`, `{mac}`, `{name}`, `{server}`. `{{` and `}}` are braces.

/// Fills them in.
///
/// # Errors
/// One that is not known, or has no value for this Pi, is named; so is a brace that is alone.
pub fn fill<'a>(text: &str, value: impl Fn(&str) -> Option<Option<&'a str>>) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        filled.push_str(before);
        if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
            filled.push_str(from.get(..1).unwrap_or_default());
            rest = after;
            continue;
        }
        let named = from.strip_prefix('{').and_then(|from| from.split_once('}'));
        let (name, after) = named.ok_or("a brace that stands alone: {{ and }} stand for braces")?;
        match value(name) {
            Some(Some(value)) => filled.push_str(value),
            Some(None) => return Err(format!("{{{name}}}, which this Pi does not have")),
            None => {
                return Err(format!("{{{name}}}: there are {{serial}}, {{mac}}, {{name}} and {{server}}"));
            }
        }
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled(text: &str) -> Result<String, String> {
        fill(text, |name| match name {
            "serial" => Some(Some("abcdef01")),
            "mac" => Some(None),
            _ => None,
        })
    }

    #[test]
    fn placeholders() {
        assert_eq!(filled("a={serial} b={{serial}}").unwrap(), "a=abcdef01 b={serial}");
        assert_eq!(filled("").unwrap(), "");
        assert!(filled("{mac}").unwrap_err().contains("does not have"));
        assert!(filled("{disk}").unwrap_err().contains("{disk}: there are {serial}"));
        for alone in ["{", "}", "{serial", "serial}", "{{}"] {
            assert!(filled(alone).unwrap_err().contains("alone"), "{alone}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = filled(&text);
        }

        #[test]
        fn text_without_braces_stays(text in "[^{}]{0,40}") {
            prop_assert_eq!(filled(&text).unwrap(), text);
        }
    }
}
