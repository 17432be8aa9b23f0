// C++'s standard library: streams, containers, an exception.
#include <algorithm>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

int main()
{
    std::vector<std::string> words{"world", "Hello", "C++"};
    std::sort(words.begin(), words.end());
    for (auto &word : words)
        std::cout << word << ' ';
    try {
        throw std::runtime_error("thrown and caught");
    } catch (std::exception &e) {
        std::cout << e.what() << std::endl;
    }
}
