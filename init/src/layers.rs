//! `lifeboat.layer=`: further images, laid over the one of `root=live:`. An OS and what a site adds to it.

use url::Url;

use crate::plan::{Parameter, http_url};

/// No boot has more: each takes a loop device and a mount, and all of them one line of mount options.
pub const LAYERS_LIMIT: usize = 8;

/// Our own parameters that this file reads: see [`crate::plan::parameters`].
pub(crate) const PARAMETERS: &[Parameter] = &[(
    "lifeboat.layer",
    "URL",
    "lay this signed squashfs over the image of root=live:; the last one lies on top",
)];

/// One image that is laid over others. It is always checked by its signed manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The squashfs; its path ends in `.squashfs`.
    pub url: Url,
    /// Where else it is.
    pub mirrors: Vec<Url>,
}

/// The layers of a command line, the lowest first.
#[derive(Default)]
pub(crate) struct LayerWords(Vec<Layer>);

impl LayerWords {
    /// Reads a word; `false`: it is none of these. Those that follow each other and whose file has the same name are
    /// mirrors, of which the last is asked first, as it is with `root=live:`.
    pub(crate) fn take(&mut self, name: &str, value: &str) -> Result<bool, String> {
        if name != "lifeboat.layer" {
            return Ok(false);
        }
        let url = http_url(value)?;
        if !url.path().ends_with(".squashfs") {
            return Err("a layer is called NAME.squashfs (its manifest is NAME.json)".into());
        }
        let same_name = |layer: &Layer| file_name(&layer.url) == file_name(&url);
        match self.0.iter().position(same_name) {
            Some(at) if at + 1 < self.0.len() => {
                return Err(
                    "its name stands before another layer's already: mirrors follow each other".into()
                );
            }
            Some(at) => {
                if let Some(layer) = self.0.get_mut(at).filter(|layer| layer.url != url) {
                    layer.mirrors.retain(|mirror| *mirror != url);
                    layer.mirrors.insert(0, std::mem::replace(&mut layer.url, url));
                }
            }
            None if self.0.len() == LAYERS_LIMIT => return Err(format!("more than {LAYERS_LIMIT} layers")),
            None => self.0.push(Layer { url, mirrors: Vec::new() }),
        }
        Ok(true)
    }

    /// The layers.
    pub(crate) fn layers(self) -> Vec<Layer> {
        self.0
    }
}

/// The last part of a URL's path, by which people know an image.
pub fn file_name(url: &Url) -> &str {
    url.path_segments().and_then(Iterator::last).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(values: &[&str]) -> Result<Vec<(String, usize)>, String> {
        let mut words = LayerWords::default();
        for value in values {
            assert!(words.take("lifeboat.layer", value)?);
        }
        Ok(words.layers().iter().map(|layer| (layer.url.to_string(), layer.mirrors.len())).collect())
    }

    #[test]
    fn layers_keep_their_order_and_neighbours_of_one_name_are_mirrors() {
        let found = layers(&["http://a/x.squashfs", "http://a/y.squashfs", "http://b/y.squashfs"]).unwrap();
        assert_eq!(found, [("http://a/x.squashfs".into(), 0), ("http://b/y.squashfs".into(), 1)]);
        let found = layers(&["http://a/x.squashfs", "http://a/x.squashfs"]).unwrap();
        assert_eq!(found, [("http://a/x.squashfs".into(), 0)]);
        let found = layers(&["http://a/x.squashfs", "http://b/x.squashfs", "http://a/x.squashfs"]).unwrap();
        assert_eq!(found, [("http://a/x.squashfs".into(), 1)]);
        assert_eq!(layers(&["https://[2001:db8::1]:8/x.squashfs?site=1"]).unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_layer_is_refused() {
        for bad in ["", "x.squashfs", "ftp://a/x.squashfs", "http://a/x.img", "http:///x.squashfs?y.squashfs"]
        {
            assert!(layers(&[bad]).is_err(), "{bad}");
        }
        let apart = layers(&["http://a/x.squashfs", "http://a/y.squashfs", "http://b/x.squashfs"]);
        assert!(apart.unwrap_err().contains("mirrors follow each other"));
        let many: Vec<String> = (0..=LAYERS_LIMIT).map(|n| format!("http://a/{n}.squashfs")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(layers(&many).unwrap_err().contains("more than 8"));
        assert_eq!(LayerWords::default().take("lifeboat.overlay", "1G"), Ok(false));
    }
}
