const button = document.querySelector("button");
button.addEventListener("click", () => {
  button.textContent = String(Number(button.textContent) + 1);
});
