//! A JSON object's plain values, one after the other: those of the object itself and of objects right
//! within it, of lists each element. What lies deeper is passed over, and nothing is kept.
//!
//! By hand, for a value of a type that nobody expects must cost its field and not the line, and a name
//! that comes twice (some versions of Suricata write such objects) must not cost it either.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Scalar;

/// Shows the values of the object in `line` to `see`: the name of the object within which it stands
/// (empty for the outermost), its own name, and itself. Answers whether it was one whole object; what
/// came before a break has been shown.
pub(super) fn walk<'a>(line: &'a [u8], see: &mut dyn FnMut(&str, &str, Scalar<'a>)) -> bool {
    let mut deserializer = serde_json::Deserializer::from_slice(line);
    let object = Object { outer: "", see };
    serde::Deserializer::deserialize_map(&mut deserializer, object).is_ok()
        && deserializer.end().is_ok()
}

struct Object<'s, 'o, 'a> {
    outer: &'o str,
    see: &'s mut dyn FnMut(&str, &str, Scalar<'a>),
}

impl<'a> Visitor<'a> for Object<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(key) = map.next_key_seed(Key)? {
            map.next_value_seed(Value {
                outer: self.outer,
                key: &key,
                is_element: false,
                see: self.see,
            })?;
        }
        Ok(())
    }
}

struct Key;

impl<'a> DeserializeSeed<'a> for Key {
    type Value = Cow<'a, str>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Cow<'a, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for Key {
    type Value = Cow<'a, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Cow<'a, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Cow<'a, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

struct Value<'s, 'o, 'a> {
    outer: &'o str,
    key: &'o str,
    is_element: bool,
    see: &'s mut dyn FnMut(&str, &str, Scalar<'a>),
}

impl<'a> Value<'_, '_, 'a> {
    fn show(self, scalar: Scalar<'a>) {
        (self.see)(self.outer, self.key, scalar);
    }
}

impl<'a> DeserializeSeed<'a> for Value<'_, '_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Value<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<(), E> {
        self.show(Scalar::Text(Cow::Borrowed(text)));
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.show(Scalar::Text(Cow::Owned(text.to_owned())));
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.show(Scalar::Integer(number));
        Ok(())
    }

    /// Nothing that counts here is negative.
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        self.show(Scalar::Float(number));
        Ok(())
    }

    fn visit_bool<E>(self, flag: bool) -> Result<(), E> {
        self.show(Scalar::Bool(flag));
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        if self.outer.is_empty() && !self.is_element {
            let object = Object {
                outer: self.key,
                see: self.see,
            };
            return object.visit_map(map);
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'a>>(self, mut list: S) -> Result<(), S::Error> {
        if self.is_element {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        loop {
            let element = Value {
                outer: self.outer,
                key: self.key,
                is_element: true,
                see: &mut *self.see,
            };
            if list.next_element_seed(element)?.is_none() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> (Vec<String>, bool) {
        let mut all = Vec::new();
        let is_whole = walk(line.as_bytes(), &mut |outer, key, scalar| {
            all.push(format!("{outer}/{key}={scalar:?}"));
        });
        (all, is_whole)
    }

    #[test]
    fn plain_values_with_their_names() {
        let (all, is_whole) = shown(
            r#"{"a":1,"b":{"c":"x","d":{"e":2}},"f":[1,[2],{"g":3}],"h":null,"i":-1,"j":true,"a":1.5}"#,
        );
        assert!(is_whole);
        assert_eq!(
            all,
            [
                "/a=Integer(1)",
                "b/c=Text(\"x\")",
                "/f=Integer(1)",
                "/j=Bool(true)",
                "/a=Float(1.5)"
            ]
        );
    }

    #[test]
    fn what_is_no_whole_object() {
        for broken in [
            "",
            "[]",
            "1",
            "{",
            r#"{"a":1"#,
            r#"{"a":1}x"#,
            r#"{"a":1}{}"#,
        ] {
            assert!(!shown(broken).1, "{broken}");
        }
        let deep = format!(r#"{{"a":{}"#, "[".repeat(100_000));
        assert!(!shown(&deep).1);
    }
}
