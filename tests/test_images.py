import io
import struct
import warnings
import zlib
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from locvlm.errors import DataError
from locvlm.geometry import crop, pad, resize
from locvlm.images import FORMATS, decode_image, image_size, normalize, to_frame, viewed

COLOURS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[255] * 3, [128] * 3, [0] * 3]])
PICTURE = Image.fromarray(COLOURS.astype(np.uint8))  # 3 wide, 2 high
GREYS = np.array([[0, 257, 25700], [51400, 65278, 65535]], dtype=np.uint16)
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_of(width, height):
    """A PNG whose header promises more than its 100 bytes of pixels."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def pixels(image):
    return image.permute(1, 2, 0).tolist()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_decodes_colours_exactly(kind):
    image = decode_image(encoded(PICTURE, kind), "test")
    assert image.dtype == torch.uint8
    assert image.permute(1, 2, 0).is_contiguous()
    assert pixels(image) == COLOURS.tolist()


@pytest.mark.parametrize("kind", FORMATS)
def test_reads_every_format_and_its_size(kind):
    data = encoded(NOISE, kind)
    assert decode_image(data, "test").shape == (3, 40, 50)
    assert image_size(data, "test") == (50, 40)


def test_palettes_become_colours():
    data = encoded(PICTURE.quantize(6))
    assert pixels(decode_image(data, "test")) == COLOURS.tolist()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_dropped(mode):
    image = PICTURE.convert(mode)
    image.putalpha(7)
    expected = np.asarray(PICTURE.convert("L").convert("RGB") if mode == "LA" else PICTURE)
    assert pixels(decode_image(encoded(image), "test")) == expected.tolist()


def test_a_palette_with_transparent_bytes_gives_no_warning():
    data = encoded(PICTURE.quantize(6), transparency=bytes([0, 128, 255]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pixels(decode_image(data, "test")) == COLOURS.tolist()


def test_greys_become_three_equal_channels():
    image = decode_image(encoded(PICTURE.convert("L")), "test")
    assert image.shape == (3, 2, 3)
    assert torch.equal(image[0], image[1])
    assert torch.equal(image[0], image[2])


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_clipped(kind):
    image = decode_image(encoded(Image.fromarray(GREYS), kind), "test")
    assert image[2].tolist() == [[0, 1, 100], [200, 254, 255]]


def test_float_greys_are_scaled_to_their_brightest_pixel():
    greys = np.array([[0.0, 2.0, 4.0], [np.nan, -1.0, np.inf]], dtype=np.float32)
    image = decode_image(encoded(Image.fromarray(greys), "TIFF"), "test")
    assert image[0].tolist() == [[0, 127, 255], [0, 0, 0]]


def test_black_and_white_becomes_black_and_white():
    image = decode_image(
        encoded(PICTURE.convert("L").point(lambda v: v > 200 and 255, "1")), "test"
    )
    assert set(image.unique().tolist()) <= {0, 255}


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_decodes_jpegs_as_pillow_does(mode, subsampling, progressive):
    options = {} if mode == "L" else {"subsampling": subsampling}
    data = encoded(NOISE.convert(mode), "JPEG", progressive=progressive, **options)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert pixels(decode_image(data, "test")) == expected.tolist()


@pytest.mark.parametrize(
    ("smallest", "shape"),
    [(None, (40, 50)), (41, (40, 50)), (21, (40, 50)), (20, (20, 25)), (10, (10, 13)), (1, (5, 7))],
)
def test_decodes_jpegs_no_smaller_than_asked_for(smallest, shape):
    image = decode_image(encoded(NOISE, "JPEG"), "test", smallest=smallest)
    assert image.shape == (3, *shape)


def test_a_reduced_jpeg_shows_the_same_picture():
    smooth = NOISE.resize((5, 4)).resize((400, 320), Image.Resampling.BICUBIC)
    data = encoded(smooth, "JPEG", quality=95)
    frames = [
        to_frame(image, resize(*image.shape[:0:-1]), 64, (0, 0, 0)).int()
        for image in (decode_image(data, "test"), decode_image(data, "test", smallest=64))
    ]
    assert (frames[0] - frames[1]).abs().max() <= 3


def test_other_formats_are_never_reduced():
    assert decode_image(encoded(NOISE), "test", smallest=1).shape == (3, 40, 50)


def test_print_colours_become_screen_colours():
    data = encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG")
    red, green, blue = decode_image(data, "test")[:, 4, 4].tolist()
    assert red < 10
    assert min(green, blue) > 245


def test_pixels_stay_as_stored_whatever_exif_says():
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn right to view"
    data = encoded(PICTURE, exif=exif.tobytes())
    assert image_size(data, "test") == (3, 2)
    assert pixels(decode_image(data, "test")) == COLOURS.tolist()


def test_takes_the_first_of_several_frames():
    data = encoded(Image.new("RGB", (4, 4), "red"), "GIF", save_all=True, append_images=[NOISE])
    assert decode_image(data, "test")[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("read", [decode_image, image_size])
@pytest.mark.parametrize("side", [9_000, 12_000, 50_000])
def test_refuses_decompression_bombs_before_decoding_them(read, side):
    with pytest.raises(
        DataError, match=f"too large: .*({side} x {side}|{side**2}).*64,000,000"
    ) as e:
        read(png_of(side, side), "bomb.png")
    assert e.value.where == "bomb.png"


@pytest.mark.parametrize(("width", "height"), [(16_001, 1), (1, 16_001)])
def test_refuses_strips_whose_square_would_not_fit_into_memory(width, height):
    for kind in ("PNG", "JPEG"):
        strip = encoded(Image.new("RGB", (width, height)), kind)
        with pytest.raises(DataError, match=rf"{width} x {height} pixels, .* 16,000 a side"):
            decode_image(strip, "strip")
    assert image_size(png_of(16_000, 1), "strip") == (16_000, 1)


def test_the_limit_can_be_set():
    assert decode_image(encoded(PICTURE), "test", max_pixels=6).shape == (3, 2, 3)
    with pytest.raises(DataError, match="3 x 2 pixels, 5 pixels allowed"):
        decode_image(encoded(PICTURE), "test", max_pixels=5)


@pytest.mark.parametrize("kind", FORMATS)
def test_refuses_a_file_cut_short(kind):
    data = encoded(NOISE, kind)
    half = len(data) // 2
    with pytest.raises(DataError, match=rf"cannot be decoded, {half:,} bytes: \w") as e:
        decode_image(data[:half], "shard.tar, member 7.img")
    assert e.value.where == "shard.tar, member 7.img"
    assert e.value.fix


def test_refuses_a_file_with_a_broken_chunk():
    # Pillow raises SyntaxError where it looks for more pixels and finds this
    data = png_of(40, 50).replace(b"IEND", b"\xfb*\xcb@")
    with pytest.raises(DataError, match="cannot be decoded, .* broken PNG file"):
        decode_image(data, "test")


def test_the_size_comes_from_the_header_alone():
    assert image_size(png_of(7000, 8000), "test") == (7000, 8000)


@pytest.mark.parametrize(
    "data", [b"", b"\x00" * 100, b"<html>404 not found</html>", b"%!PS-Adobe-3.0 EPSF-3.0\n"]
)
@pytest.mark.parametrize("read", [decode_image, image_size])
def test_refuses_what_is_no_image(read, data):
    with pytest.raises(DataError, match=f"not an image in a known format, {len(data)} bytes"):
        read(data, "test")


def test_refuses_formats_that_are_not_listed():
    with pytest.raises(DataError, match="known format") as e:
        decode_image(encoded(PICTURE, "TGA"), "test")
    assert "JPEG, PNG, WEBP, GIF, BMP, TIFF" in e.value.fix


ORIGINALS = [encoded(NOISE, kind) for kind in FORMATS]


@settings(max_examples=300)
@given(st.data())
def test_broken_files_raise_data_errors_only(data):
    broken = bytearray(data.draw(st.sampled_from(ORIGINALS)))
    for _ in range(data.draw(st.integers(1, 5))):
        near_the_header = st.integers(0, min(len(broken), 120) - 1)
        anywhere = st.integers(0, len(broken) - 1)
        broken[data.draw(near_the_header | anywhere)] = data.draw(st.integers(0, 255))
    with suppress(DataError):
        assert decode_image(bytes(broken), "test", max_pixels=10**6).dtype == torch.uint8


def ramp(width, height):
    """(3, height, width) of small distinct values: 10 * row + column."""
    return (torch.arange(height)[:, None] * 10 + torch.arange(width)).expand(3, -1, -1).byte()


def test_a_frame_of_the_images_own_size_is_the_image():
    image = ramp(4, 4)
    assert torch.equal(to_frame(image, resize(4, 4), 4, (0, 0, 0)), image)


def test_an_odd_difference_is_padded_more_at_the_right():
    frame = to_frame(ramp(5, 8), pad(5, 8), 8, (200, 210, 220))
    assert torch.equal(frame[:, :, 1:6], ramp(5, 8))
    assert frame[:, 3, [0, 6, 7]].tolist() == [[200] * 3, [210] * 3, [220] * 3]


@pytest.mark.parametrize("size", [(5, 8), (8, 5), (6, 9), (4, 4)])
def test_pads_like_llava(size):
    image = NOISE.crop((0, 0, *size))
    side = max(size)
    canvas = Image.new("RGB", (side, side), (122, 116, 104))
    canvas.paste(image, ((side - size[0]) // 2, (side - size[1]) // 2))
    frame = to_frame(decode_image(encoded(image), "test"), pad(*size), side, (122, 116, 104))
    assert pixels(frame) == np.asarray(canvas).tolist()


def test_an_odd_difference_is_cropped_more_at_the_right():
    frame = to_frame(ramp(8, 5), crop(8, 5), 5, (0, 0, 0))
    assert torch.equal(frame, ramp(8, 5)[:, :, 1:6])


def test_a_flip_mirrors_the_frame():
    frame = to_frame(ramp(4, 4), resize(4, 4).flip(), 4, (0, 0, 0))
    assert torch.equal(frame, ramp(4, 4).flip(-1))


@pytest.mark.parametrize("side", [24, 96])
def test_resizes_as_pillow_does_with_antialiasing(side):
    frame = to_frame(decode_image(encoded(NOISE), "test"), resize(50, 40), side, (0, 0, 0))
    expected = np.asarray(NOISE.resize((side, side), Image.Resampling.BICUBIC)).astype(int)
    assert frame.shape == (3, side, side)
    assert frame.dtype == torch.uint8
    assert np.abs(frame.permute(1, 2, 0).numpy() - expected).max() <= 2


def test_the_image_itself_is_left_alone():
    image = ramp(5, 8)
    for mode in (resize, pad, crop):
        frame = to_frame(image, mode(5, 8).flip(), 8, (0, 0, 0))
        assert frame.shape == (3, 8, 8)
    assert torch.equal(image, ramp(5, 8))


def test_normalizes_each_channel():
    frames = torch.tensor([0, 255, 51], dtype=torch.uint8).view(3, 1, 1).expand(2, 3, 4, 4)
    values = normalize(frames, mean=(0.5, 0.25, 0.2), std=(0.5, 0.25, 0.1))
    assert values.shape == (2, 3, 4, 4)
    assert values.dtype == torch.float32
    assert values[1, :, 2, 3].tolist() == pytest.approx([-1, 3, 0], abs=1e-6)


def test_normalizes_in_float32_where_new_tensors_are_of_another_type():
    frames = torch.arange(12, dtype=torch.uint8).view(3, 2, 2)
    expected = normalize(frames, mean=(0.1, 0.2, 0.3), std=(0.3, 0.2, 0.1))
    torch.set_default_dtype(torch.bfloat16)  # as Lightning does in steps of bf16-true
    try:
        found = normalize(frames, mean=(0.1, 0.2, 0.3), std=(0.3, 0.2, 0.1))
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_mirrored_view_turns_the_pixels_left_to_right(kind):
    data = encoded(NOISE, kind)
    mirrored = viewed(data, "mirrored", "test")
    assert torch.equal(decode_image(mirrored, "test"), decode_image(data, "test").flip(-1))


def test_a_grey_view_keeps_nothing_but_the_size():
    pixels = decode_image(viewed(encoded(NOISE), "grey", "test"), "test")
    assert pixels.shape == (3, 40, 50)
    assert set(pixels.unique().tolist()) == {128}


def test_an_image_without_a_view_keeps_its_bytes():
    assert viewed(b"any", "", "test") == b"any"


def test_what_is_no_image_has_no_view():
    with pytest.raises(DataError, match="not an image"):
        viewed(b"any", "mirrored", "page 7")
