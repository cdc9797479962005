// Whether a picture is a photograph, and not a drawing of a few plain shapes: by how many colours it has.
const SIDE = 48;
const FEW = 80; // A drawing of shapes has some twenty, with those of its edges.

export async function isPhotograph(source) {
  const image = new Image();
  image.src = source;
  try {
    await image.decode();
  } catch {
    return true; // A kind that only cameras write, such as HEIC.
  }
  const canvas = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
  const pen = canvas.getContext("2d");
  pen.drawImage(image, 0, 0, SIDE, SIDE);
  const { data } = pen.getImageData(0, 0, SIDE, SIDE);
  const colours = new Set();
  for (let at = 0; at < data.length; at += 4) colours.add(((data[at] >> 4) << 8) | ((data[at + 1] >> 4) << 4) | (data[at + 2] >> 4));
  return colours.size > FEW;
}
