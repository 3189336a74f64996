// What a test does on the page of a fleet: its steps, in place of the word below, return what they saw.
setTimeout(async () => {
  const element = (id) => document.getElementById(id);
  const set = (id, value) => {
    element(id).value = value;
    element(id).dispatchEvent(new Event("input"));
  };
  const found = () => element("found").textContent;
  // A number that stands for the picture as it is painted; 0 = nothing is.
  const ink = () => {
    const canvas = element("picture");
    const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let sum = 0;
    for (let at = 0; at < data.length; at += 4) {
      sum = (sum * 31 + data[at] + data[at + 1] + data[at + 3]) % 1e9;
    }
    return sum;
  };
  // Until the picture is another one than last time, or stays as it is: a cold browser paints late.
  let last = 0;
  const painted = async () => {
    for (let tries = 0; tries < 100; tries += 1) {
      await new Promise((done) => setTimeout(done, 50));
      const now = ink();
      if (now !== 0 && now !== last) {
        last = now;
        return;
      }
    }
  };
  let seen = null;
  try {
    seen = await (async () => { SCRIPT })();
  } catch (error) {
    faults.push(String(error));
  }
  const note = document.createElement("pre");
  note.id = "seen";
  note.textContent = JSON.stringify({seen, faults});
  document.body.append(note);
}, 200);
