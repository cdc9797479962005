// Examples for the demo model, drawn here.
function picture(...shapes) {
  const canvas = Object.assign(document.createElement("canvas"), { width: 336, height: 336 });
  const pen = canvas.getContext("2d");
  pen.fillStyle = "rgb(150, 150, 150)";
  pen.fillRect(0, 0, 336, 336);
  for (const [kind, colour, x, y] of shapes) {
    pen.fillStyle = colour;
    pen.beginPath();
    if (kind === "circle") pen.arc(x, y, 60, 0, 2 * Math.PI);
    else if (kind === "square") pen.rect(x - 52, y - 52, 104, 104);
    else
      for (let point = 0; point < 10; point++) {
        const [angle, radius] = [(point * Math.PI) / 5 - Math.PI / 2, point % 2 ? 27 : 66];
        pen.lineTo(x + radius * Math.cos(angle), y + radius * Math.sin(angle));
      }
    pen.fill();
  }
  return canvas.toDataURL("image/png");
}

const RED = "rgb(220, 30, 35)";
const BLUE = "rgb(40, 70, 214)";

export const EXAMPLES = [
  { text: "What is in the image?", pictures: [picture(["circle", RED, 90, 168], ["square", BLUE, 246, 168])] },
  { text: "What colour is the star?", pictures: [picture(["star", BLUE, 168, 168])] },
  {
    text: "Which picture has the star?",
    pictures: [picture(["circle", BLUE, 168, 168]), picture(["star", RED, 168, 168])],
  },
];
