// Tells photographs from drawings of a few plain shapes, by the number of colours.
const SIDE = 48;
const FEW = 80; // A drawing of shapes has about twenty, including its blurred edges.

export async function isPhotograph(source) {
  const image = new Image();
  image.src = source;
  try {
    await image.decode();
  } catch {
    return true; // The browser cannot decode it: a camera format such as HEIC.
  }
  const canvas = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
  const pen = canvas.getContext("2d");
  pen.drawImage(image, 0, 0, SIDE, SIDE);
  const { data } = pen.getImageData(0, 0, SIDE, SIDE);
  const colours = new Set();
  for (let at = 0; at < data.length; at += 4) colours.add(((data[at] >> 4) << 8) | ((data[at + 1] >> 4) << 4) | (data[at + 2] >> 4));
  return colours.size > FEW;
}
