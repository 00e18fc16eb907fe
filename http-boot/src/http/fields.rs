//! What a form or a query brings along: names and values.

/// The most bytes of a form.
pub const FORM_LIMIT: usize = 64 * 1024;

/// Names and values, as `application/x-www-form-urlencoded`.
#[derive(Clone, Debug, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Parses any bytes: what is no name and value is an empty one.
    pub fn parse(bytes: &[u8]) -> Self {
        Self(form_urlencoded::parse(bytes).into_owned().collect())
    }

    /// The first value of this name.
    pub fn find(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The first value of this name; an empty one where there is none.
    pub fn get(&self, name: &str) -> &str {
        self.find(name).unwrap_or_default()
    }

    /// Names of this query that are none of these.
    pub fn unknown<'a>(&'a self, names: &'a [&str]) -> Option<&'a str> {
        self.0.iter().map(|(name, _)| name.as_str()).find(|name| !names.contains(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields() {
        let fields = Fields::parse(b"a=1&b=x+y%3Cz&a=2&c");
        assert_eq!(
            (fields.get("a"), fields.get("b"), fields.get("c"), fields.get("d")),
            ("1", "x y<z", "", "")
        );
        assert_eq!(fields.unknown(&["a", "b"]), Some("c"));
        assert_eq!(fields.unknown(&["a", "b", "c"]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            Fields::parse(&bytes).get("a");
        }
    }
}
