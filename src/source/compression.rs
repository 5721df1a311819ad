//! Compressed inputs, as streams of what is in them.

use std::io::{self, Read};

/// A window larger than this is refused: a small file must not ask for gigabytes.
const MAX_WINDOW_LOG: u32 = 27;
/// What xz may take: a dictionary of the size above and what it needs besides.
const MAX_XZ_MEMORY: u64 = (1 << MAX_WINDOW_LOG) + (1 << 20);

/// How an input is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Xz,
    Zstd,
    Bzip2,
}

impl Compression {
    /// How an input that begins with `head` is compressed, where it is.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        match head {
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            // A frame, or a skippable one (RFC 8878, section 3.1.2).
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some(Self::Bzip2),
            _ => None,
        }
    }

    /// What is in `reader`; files that were compressed and then joined are read to the end.
    pub(super) fn decoder(
        self,
        reader: impl Read + Send + 'static,
    ) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::Gzip => Box::new(Careful(flate2::read::MultiGzDecoder::new(reader))),
            Self::Bzip2 => Box::new(Careful(bzip2::read::MultiBzDecoder::new(reader))),
            Self::Xz => {
                let stream = liblzma::stream::Stream::new_stream_decoder(
                    MAX_XZ_MEMORY,
                    liblzma::stream::CONCATENATED,
                )
                .map_err(io::Error::other)?;
                Box::new(Careful(liblzma::read::XzDecoder::new_stream(
                    reader, stream,
                )))
            }
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(reader)?;
                decoder.window_log_max(MAX_WINDOW_LOG)?;
                Box::new(Careful(decoder))
            }
        })
    }
}

/// Says why where a window is refused, and reads a little at a time: where the data is damaged,
/// decoders drop what they had from the same call.
struct Careful<R>(R);

/// Bytes decompressed in one call.
const STEP: usize = 4096;

impl<R: Read> Read for Careful<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(STEP);
        self.0.read(&mut buffer[..length]).map_err(|error| {
            let message = error.to_string();
            let is_window = ["memory limit", "too much memory", "memlimit"]
                .iter()
                .any(|words| message.contains(words));
            if is_window {
                return io::Error::other(format!(
                    "decompressing it takes a window over {} MiB; decompress it first and give the result",
                    (1_u64 << MAX_WINDOW_LOG) >> 20
                ));
            }
            error
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use super::*;

    const TEXT: &[u8] = b"Jun  8 14:34:33 gw kernel: IN=eth0\n";

    fn read(compressed: Vec<u8>) -> io::Result<Vec<u8>> {
        let compression = Compression::of(&compressed).unwrap();
        let mut text = Vec::new();
        compression
            .decoder(Cursor::new(compressed))?
            .read_to_end(&mut text)?;
        Ok(text)
    }

    fn compressed() -> [Vec<u8>; 4] {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(TEXT).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(TEXT).unwrap();
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(TEXT).unwrap();
        [
            gzip.finish().unwrap(),
            xz.finish().unwrap(),
            zstd::stream::encode_all(TEXT, 1).unwrap(),
            bzip2.finish().unwrap(),
        ]
    }

    #[test]
    fn each_form_alone_and_joined() {
        for one in compressed() {
            assert_eq!(read(one.clone()).unwrap(), TEXT);
            assert_eq!(
                read([one.clone(), one].concat()).unwrap(),
                [TEXT, TEXT].concat()
            );
        }
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        for one in compressed() {
            assert!(read(one[..one.len() - 5].to_vec()).is_err());
        }
    }

    #[test]
    fn damage_costs_no_more_than_it_hits() {
        let text = TEXT.repeat(3000);
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&text).unwrap();
        let mut damaged = xz.finish().unwrap();
        damaged.extend_from_slice(b"this is no xz");
        let mut read = Vec::new();
        let mut decoder = Compression::Xz.decoder(Cursor::new(damaged)).unwrap();
        assert!(decoder.read_to_end(&mut read).is_err());
        assert!(
            read.len() + STEP > text.len(),
            "{} of {}",
            read.len(),
            text.len()
        );
    }

    #[test]
    fn a_window_that_is_too_large_is_refused_with_a_reason() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(28).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(TEXT).unwrap();
        let error = read(encoder.finish().unwrap()).unwrap_err();
        assert!(error.to_string().contains("over 128 MiB"), "{error}");
        let mut options = liblzma::stream::LzmaOptions::new_preset(1).unwrap();
        options.dict_size(256 << 20);
        let mut filters = liblzma::stream::Filters::new();
        filters.lzma2(&options);
        let stream =
            liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::None)
                .unwrap();
        let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        encoder.write_all(TEXT).unwrap();
        let error = read(encoder.finish().unwrap()).unwrap_err();
        assert!(error.to_string().contains("over 128 MiB"), "{error}");
    }
}
