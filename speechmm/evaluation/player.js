"use strict";
let playing = null;
function play(word) {
  const player = word.closest("article")?.querySelector("audio");
  if (!player) return;
  const end = Number(word.dataset.to);
  playing?.player.pause();
  playing = { player, end, word };
  player.currentTime = Number(word.dataset.from);
  player.play().catch(() => {});
}

for (const player of document.querySelectorAll("audio")) {
  player.addEventListener("timeupdate", () => {
    if (playing?.player === player && player.currentTime >= playing.end) player.pause();
  });
  player.addEventListener("play", () => playing?.player === player && playing.word.classList.add("playing"));
  player.addEventListener("pause", () => {
    if (playing?.player !== player) return;
    playing.word.classList.remove("playing");
    playing = null;
  });
}

for (const word of document.querySelectorAll("[data-from]")) {
  word.addEventListener("click", () => play(word));
  word.addEventListener("keydown", event => { if (event.key === "Enter") play(word); });
}
