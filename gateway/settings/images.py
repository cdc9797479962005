"""Settings of fetching and decoding images."""

from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from gateway.settings.group import Group, Names

Fit = Literal["pad", "crop", "squash"]
Decode = Literal["fast", "exact"]
_HeaderText = Annotated[str, Field(pattern=r"^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$")]


class Images(Group):
    """Fetching and decoding of images."""

    image_max_bytes: PositiveInt = Field(default=20 * 2**20, description="Maximum size of an encoded image.")
    image_max_pixels: PositiveInt = Field(
        default=64_000_000,
        description="Maximum pixels of an image, checked before it is decoded. Four times as many for a "
        "single-scan JPEG decoded at 1/8 scale (`GATEWAY_IMAGE_DECODE=fast`).",
    )
    image_fit: Fit | None = Field(
        default=None,
        description="How an image is made square: `pad`, `crop` or `squash`. Default: the profile's.",
    )
    image_decode: Decode = Field(
        default="fast", description="`fast` decodes large JPEGs at reduced scale; `exact` never does."
    )
    image_decode_timeout: PositiveFloat = Field(
        default=10,
        description="Maximum CPU time to decode a WebP, AVIF, HEIC, TIFF or multi-scan JPEG, in a separate "
        "process. The wall-clock limit is four times that.",
    )
    image_threads: NonNegativeInt = Field(default=0, description="Decoding threads; 0 means one per core.")
    image_cache_bytes: NonNegativeInt = Field(
        default=256 * 2**20, description="Memory for the cache of decoded images; 0 turns it off."
    )
    fetch_images: bool = Field(default=True, description="Whether images may be fetched from URLs.")
    fetch_hosts: Names = Field(
        default=(), description="The only host names that images may be fetched from. Default: any."
    )
    fetch_allow: Names = Field(
        default=(),
        description="Host names and networks that may be fetched from even though they are not public.",
    )
    fetch_timeout: PositiveFloat = Field(
        default=10, description="Maximum time to fetch an image, including redirects."
    )
    fetch_max_redirects: NonNegativeInt = Field(
        default=5, description="Maximum redirects per fetch. Each target is checked again."
    )
    fetch_user_agent: _HeaderText | None = Field(
        default=None,
        description="`User-Agent` of fetches. Default: `llava-gateway/VERSION (+ADDRESS)`, the project's "
        "address. Some sites, Wikimedia for example, require contact details of the operator.",
    )

    @field_validator("fetch_allow")
    @classmethod
    def _networks_are_networks(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if "/" in name:
                ip_network(name)
        return names
